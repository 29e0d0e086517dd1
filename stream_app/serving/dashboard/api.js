// The read API, with the token in the Authorization header and nowhere else.

const KEY = "interest-stream.token";
const PATIENCE_MS = 15_000;

/** Any answer that is no 200, or none at all (status 0). */
export class Refused extends Error {
  constructor(status, slug, message, retryAfterS) {
    super(message);
    this.status = status;
    this.slug = slug;
    this.retryAfterS = retryAfterS;
  }
}

export const token = {
  get: () => sessionStorage.getItem(KEY),
  keep: (value) => sessionStorage.setItem(KEY, value),
  forget: () => sessionStorage.removeItem(KEY),
};

/** Whether it can stand in a header at all: fetch would throw on anything else. */
export function couldBeToken(value) {
  return /^[\x21-\x7e]+$/.test(value);
}

async function refusal(response) {
  const retryAfterS = Number(response.headers.get("Retry-After")) || 0;
  let problem = null;
  try {
    problem = await response.json();
  } catch {
    // Not of the API: a proxy's page, perhaps.
  }
  const said = problem?.message ?? `the worker answered ${response.status} ${response.statusText}`.trim();
  return new Refused(response.status, problem?.error ?? "", said, retryAfterS);
}

/** GET a path below v1/; relative, so that a proxy may serve the worker under a prefix. */
export async function ask(path, withToken = token.get()) {
  let response;
  try {
    response = await fetch(`v1/${path}`, {
      headers: { Authorization: `Bearer ${withToken}`, Accept: "application/json" },
      cache: "no-store",
      redirect: "error",
      signal: AbortSignal.timeout(PATIENCE_MS),
    });
  } catch (error) {
    const late = error instanceof DOMException && error.name === "TimeoutError";
    const said = late ? `no answer from the worker within ${PATIENCE_MS / 1000} s` : "the worker cannot be reached";
    throw new Refused(0, "unreachable", said, 0);
  }
  if (!response.ok) throw await refusal(response);
  return response.json();
}

/** Path of a user, whatever characters the id has. */
export function ofUser(userId, what) {
  return `users/${encodeURIComponent(userId)}/${what}`;
}
