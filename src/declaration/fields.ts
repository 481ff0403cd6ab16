import * as z from 'zod'
import {
  durationPattern,
  durationProblem,
  filePathProblem,
  labelPattern,
  labelProblem,
  objectPattern,
  objectProblem,
  type Problem,
  repositoryPathPattern,
  repositoryPathProblem,
  subdomainPattern,
  subdomainProblem,
  subjectProblem,
  validityProblem,
} from './values.ts'

/** Forms of single fields, for the schemas of rotation.yaml. `title` says what is expected in an error, the first `examples` entry goes into it. */

/** A text with a check of its own; `facts` go into the JSON Schema as they are. */
export function text(
  facts: {
    readonly title: string
    readonly description: string
    readonly examples: readonly string[]
    readonly pattern?: string
    readonly maxLength?: number
  },
  problemOf: (value: string) => Problem | null,
) {
  return z
    .string()
    .superRefine((value, context) => {
      const problem = problemOf(value)
      if (problem === null) return
      const { what, ...params } = problem
      context.addIssue({ code: 'custom', message: what, params })
    })
    .meta({ ...facts, examples: [...facts.examples] })
}

/** A map of which exactly one field is given. */
export function choice<Shape extends z.ZodRawShape>(
  facts: { readonly title: string; readonly description: string; readonly examples: readonly unknown[] },
  shape: Shape,
) {
  const names = Object.keys(shape)
  return z
    .strictObject(shape)
    .superRefine((value, context) => {
      const given = Object.keys(value).filter(name => (value as Record<string, unknown>)[name] !== undefined)
      if (given.length === 1) return
      const what = given.length === 0 ? 'names none of its choices' : `gives ${given.join(' and ')} at once`
      context.addIssue({ code: 'custom', message: what, params: { expected: `exactly one of ${names.join(', ')}` } })
    })
    .meta({ ...facts, examples: [...facts.examples], minProperties: 1, maxProperties: 1 })
}

export function duration(shortest: string, longest: string, description: string, example: string) {
  return text(
    { title: `a duration from ${shortest} to ${longest}`, description, examples: [example], pattern: durationPattern },
    value => durationProblem(value, shortest, longest),
  )
}

export function validity(longestDays: number, description: string, example: string) {
  return text(
    {
      title: `a whole number of days from 1d to ${longestDays}d`,
      description,
      examples: [example],
      pattern: durationPattern,
    },
    value => validityProblem(value, longestDays),
  )
}

export function subject(description: string, example: string) {
  return text({ title: 'a distinguished name as RFC 4514 writes it', description, examples: [example] }, subjectProblem)
}

export function repositoryPath(description: string, example: string) {
  return text(
    {
      title: 'a path inside the repository, relative to its root',
      description,
      examples: [example],
      pattern: repositoryPathPattern,
    },
    repositoryPathProblem,
  )
}

/** As `repositoryPath`, in which `{site}` stands for the name of a site. */
export function mintPath(description: string, example: string) {
  return text(
    {
      title: "a folder of the repository, relative to its root, with {site} for a site's name",
      description,
      examples: [example],
    },
    value => repositoryPathProblem(value.replaceAll('{site}', 'site')),
  )
}

/** As `repositoryPath`, or `.` for the repository's root. */
export function folder(description: string, example: string) {
  return text(
    {
      title: 'a folder of the repository, or . for its root',
      description,
      examples: [example],
      pattern: `^\\.$|${repositoryPathPattern}`,
    },
    value => (value === '.' ? null : repositoryPathProblem(value)),
  )
}

export function file(description: string, example: string) {
  return text(
    { title: "a file: relative to the repository's root, or absolute", description, examples: [example] },
    filePathProblem,
  )
}

export function object(title: string, description: string, example: string) {
  return text(
    { title: `${title} as namespace/name`, description, examples: [example], pattern: objectPattern },
    objectProblem,
  )
}

export function kubernetesName(title: string, description: string, example: string) {
  return text({ title, description, examples: [example], pattern: subdomainPattern }, subdomainProblem)
}

export function plainText(title: string, description: string, example: string) {
  return text({ title, description, examples: [example] }, value => {
    if (value.trim() === '') return { what: 'is empty', expected: title, example }
    // biome-ignore lint/suspicious/noControlCharactersInRegex: such a text would break lines of reports
    if (/[\u0000-\u001f\u007f]/.test(value)) {
      return { what: 'holds a line break or a control character', expected: `${title} on one line`, example }
    }
    if (value.length > 300) return { what: 'is longer than 300 characters', expected: title, example }
    return null
  })
}

/** A URL of a server or repository, without a password: this file is committed. */
export function url(description: string, example: string) {
  const title = 'a URL without a password'
  return text({ title, description, examples: [example] }, value => {
    if (/^[\w.-]+@[\w.-]+:[\w./~-]+$/.test(value)) return null
    if (!/^(https?|ssh|git|file):\/\/\S+$/.test(value) || !URL.canParse(value)) {
      return { what: 'is not a URL', expected: title, example }
    }
    if (new URL(value).password === '') return null
    return {
      what: 'holds a password',
      expected: title,
      todo: 'take it out; tokens are read from the environment',
      example,
    }
  })
}

/** A Kubernetes namespace. */
export function namespaceName(description: string, example: string) {
  return text({ title: 'a namespace', description, examples: [example], pattern: labelPattern, maxLength: 63 }, value =>
    labelProblem(value, 63),
  )
}
