// Before anything is drawn.
const theme = localStorage.getItem('sorano.theme');
if (theme) document.documentElement.dataset.theme = theme;
