// Runs before the first paint, so that the page never flashes in the other theme.
(function () {
  let chosen = null;
  try {
    chosen = localStorage.getItem("orchestrator.theme");
  } catch (error) {
    chosen = null; // storage may be forbidden; then the system decides
  }
  if (chosen === "dark" || chosen === "light") {
    document.documentElement.dataset.theme = chosen;
  }
})();
