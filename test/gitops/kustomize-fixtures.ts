/** Trees that kustomize builds, or refuses; checked against the real one in test/tools/kustomize.test.ts. */
export interface KustomizeFixture {
  readonly path: string
  readonly files: Readonly<Record<string, string>>
}

export const deployment = `apiVersion: apps/v1
kind: Deployment
metadata:
  name: cart
  labels: {app: cart, tier: backend}
spec:
  selector: {matchLabels: {app: cart}}
  template:
    metadata: {labels: {app: cart}}
    spec:
      serviceAccountName: cart
      containers:
        - name: app
          image: registry.example/cart:1.0
          env:
            - {name: A, value: "1"}
            - {name: B, value: "2"}
          ports:
            - containerPort: 80
            - {containerPort: 53, protocol: UDP}
            - {containerPort: 53, protocol: TCP}
          volumeMounts:
            - {name: data, mountPath: /data}
        - name: helper
          image: helper@sha256:abc
          envFrom: [{configMapRef: {name: settings}}]
      volumes:
        - {name: data, emptyDir: {}}
        - {name: settings, configMap: {name: settings}}
        - {name: tls, secret: {secretName: tls}}
`

const several = `${deployment}---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db, namespace: data}
spec:
  serviceName: db
  template:
    spec: {containers: [{name: db, image: db}]}
  volumeClaimTemplates:
    - metadata: {name: disk}
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: data, annotations: {a: b}}
spec:
  ports:
    - {name: sql, port: 5432}
---
# only a comment
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: cart}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: cart}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cart}
subjects:
  - {kind: ServiceAccount, name: cart, namespace: default}
  - {kind: ServiceAccount, name: default, namespace: other}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: cart}
rules: []
---
apiVersion: sailoperator.io/v1
kind: Istio
metadata: {name: default}
spec:
  namespace: istio-system
  values:
    pilot: {env: {A: "1"}}
    meshConfig:
      extensionProviders: [{name: one}, {name: two}]
`

const component = `apiVersion: kustomize.config.k8s.io/v1alpha1
kind: Component
`

function app(kustomization: string, more: Readonly<Record<string, string>> = {}): KustomizeFixture {
  return { path: 'app', files: { 'app/all.yaml': several, 'app/kustomization.yaml': kustomization, ...more } }
}

function patched(patch: string, target = ''): KustomizeFixture {
  return app(
    `resources: [all.yaml]\npatches:\n  - path: patch.yaml\n${target === '' ? '' : `    target: ${target}\n`}`,
    { 'app/patch.yaml': patch },
  )
}

const restart = `apiVersion: apps/v1
kind: Deployment
metadata:
  name: any
  annotations: {reanchor.dev/rotation: mesh-2026}
spec:
  template:
    metadata:
      annotations: {reanchor.dev/trust: "012"}
`

export const fixtures: Readonly<Record<string, KustomizeFixture>> = {
  'resources from files and a base in another folder': {
    path: 'overlay',
    files: {
      'overlay/kustomization.yaml': 'resources: [../base, cm.yaml]\n',
      'overlay/cm.yaml': 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: cm}\n',
      'base/kustomization.yml': 'bases: [deep]\n',
      'base/deep/Kustomization': 'resources: [all.yaml]\n',
      'base/deep/all.yaml': several,
    },
  },
  'a List is taken apart': app('resources: [list.yaml]\n', {
    'app/list.yaml':
      'apiVersion: v1\nkind: List\nitems:\n  - {apiVersion: v1, kind: ConfigMap, metadata: {name: a}}\n  - {apiVersion: v1, kind: ConfigMap, metadata: {name: b}}\n',
  }),
  'anchors, aliases and merge keys': app('resources: [a.yaml]\n', {
    'app/a.yaml':
      'apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\n  labels: &l {x: "1", y: "2"}\n  annotations:\n    <<: *l\n    z: "3"\n',
  }),
  'objects for local use only are left out': app('resources: [a.yaml, all.yaml]\n', {
    'app/a.yaml':
      'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, annotations: {config.kubernetes.io/local-config: "true"}}\n',
  }),
  'one patch with a target by pattern serves three kinds, the name in its body means nothing': patched(
    restart,
    '{kind: Deployment|StatefulSet|DaemonSet}',
  ),
  'a target in parentheses': patched(restart, '{kind: (Deployment|StatefulSet)}'),
  'a target that matches nothing changes nothing': patched(restart, '{kind: Job}'),
  'a target pattern is anchored': patched(restart, '{name: car}'),
  'a target by group, version and namespace': patched(restart, '{group: apps, version: v1, namespace: data}'),
  'a target in the default namespace': patched(restart, '{group: apps, namespace: default}'),
  'a target by labels': patched(restart, '{labelSelector: "app=cart,tier in (backend, web),!gone,tier!=x"}'),
  'a target by labels that do not match': patched(restart, '{labelSelector: "app notin (cart)", kind: Deployment}'),
  'a target by annotations': patched(
    'apiVersion: v1\nkind: Service\nmetadata: {name: x, labels: {found: "1"}}\n',
    '{annotationSelector: a=b}',
  ),
  'a patch without target, of several documents': patched(
    `${restart.replace('any', 'cart')}---\napiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: db, namespace: data}\nspec: {replicas: 2}\n`,
  ),
  'lists of a pod merge by their keys, the patch first': patched(`apiVersion: apps/v1
kind: Deployment
metadata: {name: cart}
spec:
  template:
    spec:
      containers:
        - name: new
          image: new
        - name: app
          args: [x]
          env:
            - {name: C, value: "3"}
            - {name: B, value: changed}
          ports:
            - containerPort: 443
            - {containerPort: 53, protocol: UDP, name: dns}
          volumeMounts:
            - {mountPath: /data, name: other}
            - {mountPath: /new, name: data}
      volumes:
        - {name: data, emptyDir: null, hostPath: {path: /x}}
        - {name: more, emptyDir: {}}
`),
  'directives delete and replace': patched(`apiVersion: apps/v1
kind: Deployment
metadata:
  name: cart
  labels: {$patch: replace, only: this}
spec:
  selector: null
  template:
    spec:
      containers:
        - {name: helper, $patch: delete}
        - name: app
          env:
            - {name: Z, value: z}
            - $patch: replace
          ports:
            - $patch: delete
`),
  'a patch deletes an object': patched(
    'apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: cart}\n$patch: delete\n',
  ),
  'a patch with a target deletes objects': patched(
    'apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\n$patch: delete\n',
    '{group: apps}',
  ),
  'a custom resource keeps sibling keys, and its lists are replaced': patched(
    'apiVersion: sailoperator.io/v1\nkind: Istio\nmetadata: {name: x, annotations: {reanchor.dev/rotation: m}}\nspec:\n  values:\n    pilot: {env: {B: "2"}, podAnnotations: {t: x, gone: null}}\n    meshConfig: {extensionProviders: [{name: two, on: true}]}\n',
    '{group: sailoperator.io, kind: Istio, name: default}',
  ),
  'ports of a Service merge by number': patched(
    'apiVersion: v1\nkind: Service\nmetadata: {name: db, namespace: data}\nspec: {ports: [{port: 5432, targetPort: 1}, {port: 80}]}\n',
  ),
  'a JSON patch, with pointers escaped and list indexes': patched(
    '- {op: add, path: /metadata/annotations/reanchor.dev~1trust, value: "x"}\n- {op: replace, path: /spec/template/spec/containers/0/image, value: other}\n- {op: add, path: /spec/template/spec/containers/0/env/-, value: {name: Z}}\n- {op: remove, path: /spec/template/spec/volumes/1}\n- {op: test, path: /kind, value: Deployment}\n- {op: copy, from: /metadata/labels, path: /spec/copied}\n- {op: move, from: /spec/selector, path: /spec/moved}\n',
    '{kind: Deployment}',
  ),
  'a JSON patch reads its values as YAML 1.1': patched(
    '- {op: add, path: /spec/on, value: yes}\n',
    '{kind: Deployment}',
  ),
  'an inline patch in JSON': app(
    'resources: [all.yaml]\npatches:\n  - patch: \'[{"op": "add", "path": "/spec/paused", "value": true}]\'\n    target: {kind: Deployment}\n',
  ),
  'patches in the two old forms': app(
    `resources: [all.yaml]
patchesStrategicMerge:
  - patch.yaml
  - |-
    apiVersion: apps/v1
    kind: StatefulSet
    metadata: {name: db, namespace: data}
    spec: {replicas: 5}
patchesJson6902:
  - target: {group: apps, version: v1, kind: Deployment, name: cart}
    path: json.yaml
`,
    {
      'app/patch.yaml': restart.replace('any', 'cart'),
      'app/json.yaml': '- {op: add, path: /spec/paused, value: true}\n',
    },
  ),
  'Components apply in order, to what stands above them': app(
    'resources: [all.yaml]\ncomponents: [../trust/one, ../trust/two]\nnamePrefix: p-\n',
    {
      'trust/one/kustomization.yaml': `${component}resources: [cm.yaml]\npatches:\n  - path: patch.yaml\n    target: {kind: Deployment}\n`,
      'trust/one/cm.yaml': 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: extra}\n',
      'trust/one/patch.yaml': restart,
      'trust/two/kustomization.yaml': `${component}components: [../three]\npatches:\n  - patch: |-\n      apiVersion: apps/v1\n      kind: Deployment\n      metadata: {name: n, annotations: {reanchor.dev/rotation: later}}\n    target: {kind: Deployment}\n`,
      'trust/three/kustomization.yaml': `${component}patches: []\n`,
    },
  ),
  'a Component twice': app('resources: [all.yaml]\ncomponents: [../c, ../c]\n', {
    'c/kustomization.yaml': `${component}patches:\n  - path: patch.yaml\n    target: {kind: Deployment}\n`,
    'c/patch.yaml': restart,
  }),
  'a Component with a namespace sets that of all': app('resources: [all.yaml]\ncomponents: [../c]\n', {
    'c/kustomization.yaml': `${component}namespace: other\n`,
  }),
  'namespace, with cluster-scoped kinds, bindings and a Namespace object': app(
    'resources: [all.yaml, ns.yaml]\nnamespace: shop\n',
    {
      'app/ns.yaml': 'apiVersion: v1\nkind: Namespace\nmetadata: {name: was}\n',
    },
  ),
  'a patch finds an object by the name and namespace that it had': app(
    'resources: [../base]\npatches:\n  - path: patch.yaml\n  - patch: |-\n      apiVersion: v1\n      kind: Service\n      metadata: {name: x, labels: {l: "1"}}\n    target: {kind: Service, name: db, namespace: data}\n',
    {
      'base/kustomization.yaml': 'resources: [all.yaml]\nnamespace: shop\nnameSuffix: -v1\n',
      'base/all.yaml': several,
      'app/patch.yaml': restart.replace('any', 'cart'),
    },
  ),
  'names with prefix and suffix are followed by what names them': app(
    'resources: [all.yaml, more.yaml]\nnamePrefix: eu-\nnameSuffix: -one\n',
    {
      'app/more.yaml':
        'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\n---\napiVersion: v1\nkind: Secret\nmetadata: {name: tls}\n',
    },
  ),
  'labels in the three ways': app(
    'resources: [all.yaml]\nlabels:\n  - pairs: {a: "1"}\n  - {pairs: {b: "2"}, includeTemplates: true}\n  - {pairs: {c: "3"}, includeSelectors: true}\n',
  ),
  'commonLabels and commonAnnotations': app(
    'resources: [all.yaml]\ncommonLabels: {team: x}\ncommonAnnotations: {note: "yes"}\n',
  ),
  'images and replicas': app(
    'resources: [all.yaml]\nimages:\n  - {name: registry.example/cart, newTag: "2"}\n  - {name: helper, newName: other/helper, newTag: v1}\n  - {name: db, digest: "sha256:1"}\nreplicas:\n  - {name: cart, count: 4}\n',
  ),
  'generators without a hash': app(
    'resources: [all.yaml]\ngeneratorOptions: {disableNameSuffixHash: true, labels: {g: "1"}, annotations: {note: "2"}}\nconfigMapGenerator:\n  - name: settings\n    literals: [a=b=c, \'q="quoted"\', e=]\n    files: [conf.txt, other=sub/conf.txt]\n    envs: [my.env]\n    options: {labels: {own: "3"}, immutable: true}\nsecretGenerator:\n  - name: tls\n    namespace: data\n    type: kubernetes.io/tls\n    literals: [tls.key=k]\n',
    { 'app/conf.txt': 'one\ntwo\n', 'app/sub/conf.txt': 'x', 'app/my.env': '# c\nK=V\n  L=W\n\n' },
  ),
  'generators with a hash, which references follow': app(
    'resources: [all.yaml]\nnamePrefix: p-\nconfigMapGenerator:\n  - name: settings\n    literals: ["a=<b>&\u2028"]\nsecretGenerator:\n  - name: tls\n    files: [long.txt]\n',
    { 'app/long.txt': 'long '.repeat(40) },
  ),
  'a generator merges into what a base generates': app(
    'resources: [../base]\nconfigMapGenerator:\n  - {name: settings, behavior: merge, literals: [b=3, c=4]}\n  - {name: whole, behavior: replace, literals: [z=1]}\n',
    {
      'base/kustomization.yaml':
        'configMapGenerator:\n  - {name: settings, literals: [a=1, b=2]}\n  - {name: whole, literals: [y=0]}\n',
    },
  ),
  'a sealed Secret passes with its sops block': app('resources: [secret.yaml]\ncommonAnnotations: {a: b}\n', {
    'app/secret.yaml':
      'apiVersion: v1\nkind: Secret\nmetadata: {name: cacerts}\ndata:\n  ca-key.pem: ENC[AES256_GCM,data:x,iv:y,tag:z,type:str]\n  root-cert.pem: aGVsbG8=\nsops:\n  age:\n    - {recipient: age1, enc: e}\n  mac: ENC[x]\n',
  }),
  'nothing at all, written out': { path: 'app', files: { 'app/kustomization.yaml': 'resources: []\n' } },
  'scalars that YAML versions read differently stay as they are': app('resources: [a.yaml]\n', {
    'app/a.yaml':
      'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {a: "yes", b: "0o17", c: "012", d: "1e3", e: "~", f: "2024-01-01", g: "null"}\n',
  }),
}

export const refused: Readonly<Record<string, KustomizeFixture>> = {
  'a folder without a kustomization': { path: 'app', files: { 'app/all.yaml': several } },
  'an empty kustomization': { path: 'app', files: { 'app/kustomization.yaml': '# nothing\n' } },
  'an empty Component': app('resources: [all.yaml]\ncomponents: [../c]\n', { 'c/kustomization.yaml': component }),
  'a Component among the resources': app('resources: [../c]\n', {
    'c/kustomization.yaml': `${component}patches: []\n`,
  }),
  'a Kustomization among the components': app('resources: [all.yaml]\ncomponents: [../c]\n', {
    'c/kustomization.yaml': 'resources: []\n',
  }),
  'a resource that does not exist': app('resources: [gone.yaml]\n'),
  'a resource that is no Kubernetes object': app('resources: [values.yaml]\n', { 'app/values.yaml': 'replicas: 1\n' }),
  'a circle': app('resources: [../b]\n', { 'b/kustomization.yaml': 'resources: [../app]\n' }),
  'a folder that draws in itself': app('resources: [.]\n'),
  'an object twice': app('resources: [all.yaml, again.yaml]\n', { 'app/again.yaml': deployment }),
  'a patch without target that matches nothing': patched(restart),
  'a patch whose body has no name': patched(
    'apiVersion: apps/v1\nkind: Deployment\nspec: {replicas: 1}\n',
    '{kind: Deployment}',
  ),
  'a patch with a target and two documents': patched(`${restart}---\n${restart}`, '{kind: Deployment}'),
  'a JSON patch to a place that is not there': patched(
    '- {op: add, path: /spec/a/b, value: x}\n',
    '{kind: Deployment}',
  ),
  'a JSON patch whose test fails': patched('- {op: test, path: /kind, value: Job}\n', '{kind: Deployment}'),
  'a patch that puts a scalar where a map is': patched(
    'apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: cart}\nspec: none\n',
  ),
  'a patch file that does not exist': app('resources: [all.yaml]\npatches: [{path: gone.yaml}]\n'),
  'a patch both inline and in a file': app('resources: [all.yaml]\npatches: [{path: all.yaml, patch: x}]\n'),
  'replicas for nothing': app('resources: [all.yaml]\nreplicas: [{name: gone, count: 1}]\n'),
  'a generator that makes what is there': app('resources: [cm.yaml]\nconfigMapGenerator: [{name: a}]\n', {
    'app/cm.yaml': 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n',
  }),
}
