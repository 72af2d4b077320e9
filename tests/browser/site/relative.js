window.relativeLoaded = true;
