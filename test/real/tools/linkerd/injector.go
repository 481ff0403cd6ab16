package main

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
)

// injector answers the API server by a certificate of a PKI of its own. Each time it reads the mounted bundle, and writes it into the pod as a literal:
// a pod that is made before the kubelet has brought a change keeps the anchors from before (linkerd2 controller/proxy-injector/webhook.go).
func injector() error {
	serve := http.NewServeMux()
	serve.HandleFunc("/", admit)
	server := &http.Server{Addr: ":8443", Handler: serve, TLSConfig: &tls.Config{MinVersion: tls.VersionTLS12}}
	go func() {
		ready := http.NewServeMux()
		ready.HandleFunc("/ready", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
		fatal(http.ListenAndServe(":9995", ready))
	}()
	return server.ListenAndServeTLS("/var/run/linkerd/tls/tls.crt", "/var/run/linkerd/tls/tls.key")
}

type admission struct {
	Request struct {
		UID       string `json:"uid"`
		Namespace string `json:"namespace"`
		Object    struct {
			Metadata struct {
				Labels      map[string]string `json:"labels"`
				Annotations map[string]string `json:"annotations"`
			} `json:"metadata"`
			Spec struct {
				Containers     []struct{ Name string } `json:"containers"`
				InitContainers []struct{ Name string } `json:"initContainers"`
				Volumes        []any                   `json:"volumes"`
			} `json:"spec"`
		} `json:"object"`
	} `json:"request"`
}

func admit(w http.ResponseWriter, r *http.Request) {
	var review admission
	if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	answer := map[string]any{"uid": review.Request.UID, "allowed": true}
	patch, err := patchOf(&review)
	if err != nil {
		answer["allowed"] = false
		answer["status"] = map[string]any{"message": err.Error()}
	} else if patch != nil {
		answer["patchType"] = "JSONPatch"
		answer["patch"], _ = json.Marshal(patch)
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(map[string]any{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": answer})
}

type operation struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value"`
}

// Annotations of the rig, in the place of iptables and of the destination service: where the application listens, who its peers are, and which of
// the two proxies it gets.
const (
	inboundAnnotation  = "rig/inbound"
	outboundAnnotation = "rig/outbound"
	proxyAnnotation    = "rig/proxy"
	nativeAnnotation   = "config.beta.linkerd.io/proxy-enable-native-sidecar"
)

func patchOf(review *admission) ([]operation, error) {
	pod := review.Request.Object
	annotations := pod.Metadata.Annotations
	if mode := annotations["linkerd.io/inject"]; mode != "enabled" && mode != "ingress" {
		return nil, nil
	}
	for _, each := range append(pod.Spec.Containers, pod.Spec.InitContainers...) {
		if each.Name == "linkerd-proxy" {
			return nil, nil
		}
	}
	old, err := mountedContext()
	if err != nil {
		return nil, err
	}
	var text []byte
	if old != nil {
		text = []byte(old.TrustAnchorsPem)
	} else if text, err = os.ReadFile(trustRootsFile); err != nil {
		return nil, err
	}
	namespace, domain := os.Getenv("LINKERD_NAMESPACE"), os.Getenv("TRUST_DOMAIN")
	sum := sha256.Sum256(text)
	labels := map[string]string{"linkerd.io/control-plane-ns": namespace, "linkerd.io/workload-ns": review.Request.Namespace}
	for key, value := range pod.Metadata.Labels {
		labels[key] = value
	}
	noted := map[string]string{"linkerd.io/created-by": "linkerd/proxy-injector " + os.Getenv("LINKERD_VERSION")}
	if old == nil {
		noted["linkerd.io/trust-root-sha256"] = hex.EncodeToString(sum[:])
	}
	for key, value := range annotations {
		noted[key] = value
	}
	container := proxyContainer(string(text), annotations, namespace, domain)
	patch := []operation{{"add", "/metadata/labels", labels}, {"add", "/metadata/annotations", noted}}
	if annotations[nativeAnnotation] == "true" {
		// A native sidecar is up before the first container starts.
		container["restartPolicy"] = "Always"
		container["startupProbe"] = map[string]any{
			"httpGet": map[string]any{"path": "/ready", "port": 4191}, "periodSeconds": 1, "failureThreshold": 120,
		}
		if pod.Spec.InitContainers == nil {
			patch = append(patch, operation{"add", "/spec/initContainers", []any{}})
		}
		patch = append(patch, operation{"add", "/spec/initContainers/0", container})
	} else {
		// First among the containers: the next one waits for its hook (proxy.await).
		container["lifecycle"] = map[string]any{
			"postStart": map[string]any{"exec": map[string]any{"command": []string{"/usr/local/bin/linkerd-rig", "await", "4191"}}},
		}
		patch = append(patch, operation{"add", "/spec/containers/0", container})
	}
	if pod.Spec.Volumes == nil {
		patch = append(patch, operation{"add", "/spec/volumes", []any{}})
	}
	token := map[string]any{"audience": "identity.l5d.io", "expirationSeconds": 86400, "path": "linkerd-identity-token"}
	volume := map[string]any{
		"name":      "linkerd-identity-token",
		"projected": map[string]any{"sources": []any{map[string]any{"serviceAccountToken": token}}},
	}
	return append(patch, operation{"add", "/spec/volumes/-", volume}), nil
}

func proxyContainer(anchors string, annotations map[string]string, namespace, domain string) map[string]any {
	identity := "linkerd-identity." + namespace + ".serviceaccount.identity." + namespace + "." + domain
	field := func(name, path string) any {
		return map[string]any{"name": name, "valueFrom": map[string]any{"fieldRef": map[string]any{"fieldPath": path}}}
	}
	value := func(name, text string) any { return map[string]any{"name": name, "value": text} }
	image := os.Getenv("PROXY_IMAGE")
	if annotations[proxyAnnotation] == "go" {
		image = os.Getenv("GO_PROXY_IMAGE")
	}
	return map[string]any{
		"name":  "linkerd-proxy",
		"image": image,
		"args":  []string{"proxy"},
		"env": []any{
			field("_pod_ns", "metadata.namespace"),
			field("_pod_sa", "spec.serviceAccountName"),
			value("LINKERD2_PROXY_IDENTITY_TRUST_ANCHORS", anchors),
			value("LINKERD2_PROXY_IDENTITY_LOCAL_NAME", "$(_pod_sa).$(_pod_ns).serviceaccount.identity."+namespace+"."+domain),
			value("LINKERD2_PROXY_IDENTITY_SVC_NAME", identity),
			value("LINKERD2_PROXY_IDENTITY_SVC_ADDR", "linkerd-identity."+namespace+".svc.cluster.local:8080"),
			value("RIG_INBOUND", annotations[inboundAnnotation]),
			value("RIG_OUTBOUND", annotations[outboundAnnotation]),
		},
		"ports": []any{
			map[string]any{"containerPort": 4143, "name": "linkerd-proxy"},
			map[string]any{"containerPort": 4191, "name": "linkerd-admin"},
		},
		"readinessProbe": map[string]any{"httpGet": map[string]any{"path": "/ready", "port": 4191}, "periodSeconds": 1},
		"volumeMounts":   []any{map[string]any{"name": "linkerd-identity-token", "mountPath": "/var/run/secrets/tokens"}},
	}
}
