"""What lies on storage: look at it (``ls``), take it along (``pull``), tidy it up (``clean``)."""
