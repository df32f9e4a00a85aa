// Runs before the page is drawn, so that it does not flash in the other theme.
"use strict";
(() => {
  const names = ["auto", "light", "dark"];
  let name = "auto";
  try {
    name = localStorage.getItem("theme") || "auto";
  } catch {
    // without access to the storage the theme follows the system
  }
  const show = () => {
    document.documentElement.dataset.theme = name;
    const button = document.getElementById("theme");
    if (button) {
      button.title = `Theme: ${name}`;
      button.setAttribute("aria-label", `Theme: ${name}. Change it`);
    }
  };
  show();
  document.addEventListener("DOMContentLoaded", () => {
    show();
    document.getElementById("theme").addEventListener("click", () => {
      name = names[(names.indexOf(name) + 1) % names.length];
      try {
        localStorage.setItem("theme", name);
      } catch {
        // as above
      }
      show();
    });
  });
})();
