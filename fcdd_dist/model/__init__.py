"""The mathematics of FCDD: networks and their receptive fields, objectives, heatmaps. Pure functions of tensors."""
