// Read before JS9: the paths of its parts; it contacts no helper server.
"use strict";

var JS9Prefs = {
  globalOpts: {
    helperType: "none",
    helperPort: 0,
    installDir: document.currentScript.dataset.home,
    updatePrefs: false,
    requireHelper: false,
    requireFits2Fits: false,
    xtimeout: 180000,
  },
  imageOpts: { scale: "log", colormap: "grey", scaleclipping: "zmax", zooming: true, wcssys: "ICRS", wcsunits: "sexagesimal", contrast: 1, bias: 0.5 },
};
var JS9Inline = {};
