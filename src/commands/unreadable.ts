import { ClusterError, type ClusterFailure, credentialsRefused } from '../cluster/cluster.ts'
import { exitCodes, ReanchorError } from '../errors.ts'

const whatToDo: Readonly<Record<ClusterFailure, string>> = {
  unreachable: 'check the network and the kubeconfig with `kubectl get namespace kube-system`, then run this again',
  forbidden:
    'bind the role to whoever runs this; what `plan` reads besides (the CA Secret) may be given as spec.current.files instead',
  partial: 'run this again: half a list is never judged',
  timeout: 'run this again; where it stays so, look at the pod or the API server that does not answer',
  malformed: 'check that the kubeconfig names an API server, and no proxy or login page in front of it',
}

/** What a cluster could not answer, as an error for people: evidence is missing (exit 4). Anything else comes back as it is. */
export function unreadable(error: unknown, site: string | null): unknown {
  if (!(error instanceof ClusterError)) return error
  return new ReanchorError({
    what: 'the cluster does not answer what has to be known',
    where: { object: `${site === null ? '' : `site ${site}, `}${error.asked}` },
    expected: 'a whole answer',
    found: `${error.failure}: ${error.message.slice(error.asked.length + 2)}`,
    todo: error.message.includes(credentialsRefused)
      ? 'give the kubeconfig new credentials: its token has ended, or is not of this cluster'
      : whatToDo[error.failure],
    exit: exitCodes.violated,
    cause: error,
  })
}
