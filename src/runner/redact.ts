/** A variable whose value is a secret by its name; `…_FILE` and `…_PATH` say where one is, and sockets are none. */
const secretName = /TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIAL|API_?KEY|(^|_)(KEY|PAT|AUTH|COOKIE)(_|$)/i
const placeName = /(_FILE|_PATH|_DIR|_SOCK)$/i
/** Shorter values stand in ordinary words. */
const shortest = 8

/**
 * Takes the values of secret variables out of what is printed: as they are, each line of those that have several, and in the forms in which URLs and headers
 * carry them. A part of a value is not found.
 */
export function redactor(environment: Readonly<Record<string, string | undefined>>): (text: string) => string {
  const secrets = new Map<string, string>()
  for (const [name, value] of Object.entries(environment)) {
    if (value === undefined || placeName.test(name) || !(secretName.test(name) || hasCredentials(value))) continue
    for (const form of formsOf(value)) if (form.length >= shortest) secrets.set(form, name)
  }
  // The longest first: one secret may be the beginning of another.
  const known = [...secrets].sort(([one], [other]) => other.length - one.length)
  if (known.length === 0) return text => text
  return text => known.reduce((left, [secret, name]) => left.replaceAll(secret, `***${name}***`), text)
}

/** `https://user:password@host/…` */
function hasCredentials(value: string): boolean {
  return /^[a-z][a-z0-9+.-]*:\/\/[^/\s@]*:[^/\s@]+@/i.test(value)
}

function formsOf(value: string): readonly string[] {
  const trimmed = value.trim()
  const parts = trimmed.split(/\r?\n/).map(line => line.trim())
  const lines = parts.length === 1 ? [] : parts.filter(line => !line.startsWith('-----'))
  const [, password = ''] = /^[a-z][a-z0-9+.-]*:\/\/[^/\s@]*?:([^/\s@]+)@/i.exec(trimmed) ?? []
  return [trimmed, ...lines, password].flatMap(text => [
    text,
    encodeURIComponent(text),
    JSON.stringify(text).slice(1, -1),
    Buffer.from(text).toString('base64'),
    Buffer.from(text).toString('base64url'),
    // Basic credentials as git and curl make them of a token.
    ...['x-access-token', 'oauth2', 'gitlab-ci-token', 'git', 'x-token-auth', 'x-bitbucket-api-token-auth'].map(user =>
      Buffer.from(`${user}:${text}`).toString('base64'),
    ),
  ])
}
