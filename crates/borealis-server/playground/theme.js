// Sets the colour theme before the first paint; a classic script because modules run too late for that.
(() => {
  let theme = null;
  try {
    theme = localStorage.getItem("borealis.theme");
  } catch {
    // Storage is blocked: follow the system.
  }
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
})();
