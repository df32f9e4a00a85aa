// Requests to the server. The message of an error is the server's, or says that the server
// can't be reached (status 0).

export class APIError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function ask(path, options) {
  let answer;
  try {
    answer = await fetch(path, { cache: "no-store", credentials: "same-origin", redirect: "error", ...options });
  } catch {
    throw new APIError(0, "settled can't be reached");
  }
  let value;
  try {
    value = await answer.json();
  } catch {
    throw new APIError(answer.ok ? 0 : answer.status, `settled answered ${answer.status} without a reason`);
  }
  if (!answer.ok) throw new APIError(answer.status, value.error || `settled answered ${answer.status}`);
  return value;
}

export const get = (path, signal) => ask(path, { signal });

export const post = (path, token, body) =>
  ask(path, {
    method: "POST",
    headers: { Authorization: `Bearer ${token}`, "Content-Type": "application/json" },
    body: JSON.stringify(body || {}),
  });
