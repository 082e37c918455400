// Light or dark as the system has it; set before anything is painted.
(() => {
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const show = () => { document.documentElement.dataset.bsTheme = dark.matches ? "dark" : "light"; };
  dark.addEventListener("change", show);
  show();
})();
