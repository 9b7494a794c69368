"""The style sheet of reports: one column on a phone, two where there is room; light or dark as the reader has it."""

STYLE = """
:root { color-scheme: light dark; --page: #f6f8fa; --card: #ffffff; --ink: #1f2328; --muted: #59636e; --line: #d8dee4;
  --nominal: #0b69c7; --anomalous: #d1441a; --holdout: #00856f; --threshold: #7c3aed; --warn: #fff4e5;
  --warn-line: #d97706; }
@media (prefers-color-scheme: dark) { :root { --page: #0d1117; --card: #161b22; --ink: #e6edf3; --muted: #9aa4ae;
  --line: #303842; --nominal: #58a6ff; --anomalous: #ff8a5c; --holdout: #3ccfae; --threshold: #b794ff; --warn: #2e2213;
  --warn-line: #f0a43a; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.5 system-ui, -apple-system, "Segoe UI",
  Roboto, "Helvetica Neue", Arial, sans-serif; -webkit-text-size-adjust: 100%; }
main { max-width: 1120px; margin: 0 auto; padding: 24px 16px 48px; }
header p { margin: 0; }
.over { color: var(--muted); font-size: 14px; overflow-wrap: anywhere; }
h1 { font-size: clamp(28px, 5vw, 40px); line-height: 1.15; margin: 4px 0 8px; overflow-wrap: anywhere; }
h2 { font-size: 20px; margin: 0 0 12px; }
.verdict { font-size: clamp(17px, 2.4vw, 20px); max-width: 62ch; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; margin: 20px 0; }
.tile, section { background: var(--card); border: 1px solid var(--line); border-radius: 10px; }
.tile { padding: 12px 16px; }
.tile b { display: block; font-size: 28px; line-height: 1.2; font-variant-numeric: tabular-nums; }
.tile span { color: var(--muted); font-size: 14px; display: block; }
section { padding: 20px; margin: 16px 0; }
.grid { display: grid; gap: 16px; grid-template-columns: repeat(auto-fit, minmax(min(310px, 100%), 1fr)); }
.grid > section { margin: 0; min-width: 0; padding: 16px; }
.charts { margin: 16px 0; }
.charts svg { display: block; width: 100%; height: auto; max-width: 520px; margin: 0 auto; }
.warn { background: var(--warn); border: 1px solid var(--warn-line); border-left-width: 6px; border-radius: 10px;
  padding: 12px 16px; margin: 16px 0; }
.note { color: var(--muted); margin: 4px 0; }
.scroll { overflow-x: auto; }
.scroll img { display: block; width: 100%; max-width: var(--w); min-width: min(900px, var(--w)); height: auto;
  border-radius: 6px; background: #fff; }
figure { margin: 0 0 20px; }
figcaption { font-weight: 600; margin-bottom: 6px; }
table { border-collapse: collapse; width: 100%; font-size: 15px; }
th, td { text-align: left; padding: 6px 12px 6px 0; border-top: 1px solid var(--line); vertical-align: top; }
td { overflow-wrap: anywhere; }
thead th, thead th.n { border-top: 0; color: var(--muted); font-weight: 600; font-size: 14px; vertical-align: bottom;
  white-space: normal; }
tbody th { font-weight: 500; }
.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
td:last-child, th:last-child { padding-right: 0; }
.meter { background: linear-gradient(var(--nominal) 0 0) no-repeat left bottom / calc(var(--v) * 1%) 3px; }
.differs td:last-child { font-weight: 600; }
.differs small { font-weight: 400; }
.path { font: 13px/1.6 ui-monospace, "SF Mono", Menlo, Consolas, monospace; }
.facts th { width: 42%; }
details { margin: 0; }
summary { cursor: pointer; font-size: 20px; font-weight: 700; }
summary small { color: var(--muted); font-weight: 400; font-size: 14px; }
details[open] summary { margin-bottom: 12px; }
ul { margin: 0; padding-left: 20px; } li { margin: 6px 0; max-width: 80ch; }
@media (max-width: 480px) { section { padding: 16px; } table { font-size: 14px; } th, td { padding-right: 10px; }
  .tiles { grid-template-columns: 1fr 1fr; } .tile b { font-size: 24px; } }
@media print { body { background: #fff; } section, .tile { break-inside: avoid; } }
"""

# For the wide tables and the many heatmaps of a sweep.
WIDE = """
.wide td, .wide th { white-space: nowrap; padding-right: 12px; }
.wide thead th { white-space: normal; vertical-align: bottom; min-width: 62px; }
.wide td.long { white-space: normal; min-width: 230px; }
.wide tr > :first-child { position: sticky; left: 0; background: var(--card); min-width: 96px; max-width: 34vw;
  white-space: normal; overflow-wrap: break-word; }
.wide td { font-variant-numeric: tabular-nums; }
.wide .marked > * { font-weight: 700; }
.chart svg { display: block; width: 100%; max-width: 620px; height: auto; margin: 0 auto; }
.verdict { margin: 0 0 6px; }
.folds details { border-top: 1px solid var(--line); padding: 8px 0; }
.folds summary { font-size: 16px; font-weight: 600; }
.folds figure { margin: 0; }
@media print { details::details-content { content-visibility: visible; height: auto; } .wide .scroll, .scroll {
  overflow: visible; } .wide table { font-size: 10px; } .scroll img { min-width: 0; } }
"""
