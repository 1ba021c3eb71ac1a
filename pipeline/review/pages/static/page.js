// Logging in and out, by the API: it sets the cookie, which no script can read.
const answer = async (method, body, headers = {}) =>
  fetch("/api/session", { method, body, headers: { "Content-Type": "application/json", ...headers } });

document.addEventListener("click", async (event) => {
  const button = event.target.closest?.("button[data-csrf]");
  if (!button) return;
  await answer("DELETE", undefined, { "X-CSRF-Token": button.dataset.csrf });
  location.assign("/login");
});

document.addEventListener("submit", async (event) => {
  const form = event.target;
  if (form.id !== "log-in") return;
  event.preventDefault();
  const said = document.getElementById("log-in-said");
  said.textContent = "";
  try {
    const { name, password } = Object.fromEntries(new FormData(form));
    const got = await answer("POST", JSON.stringify({ name, password }));
    if (got.ok) return location.assign(form.dataset.next);
    said.textContent = "⚠ " + (await got.json()).error;
  } catch {
    said.textContent = "⚠ the station does not answer: try again";
  }
  form.password.value = "";
  form.password.focus();
});
