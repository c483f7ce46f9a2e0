"use strict";
// The link's text is behind the #, which no server and no log sees.
const form = document.getElementById("join");
const answer = document.getElementById("answer");
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const given = new FormData(form);
  const body = { token: location.hash.slice(1), name: given.get("name") || null, password: given.get("password") };
  answer.textContent = "";
  try {
    const response = await fetch("/api/auth/accept", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
    });
    if (response.ok) {
      form.replaceChildren(answer);
      history.replaceState(null, "", "/join");
      answer.textContent = (await response.json()).message;
    } else {
      answer.textContent = (await response.json()).detail;
    }
  } catch {
    answer.textContent = "The server does not answer; try again.";
  }
});
