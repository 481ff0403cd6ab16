// Renders the template of an ExternalSecret as External Secrets does: {"template": spec.target.template, "data": {key: value}} on standard input, the
// Secret's data, labels and annotations on standard output.
package main

import (
	"encoding/json"
	"fmt"
	"os"

	esv1 "github.com/external-secrets/external-secrets/apis/externalsecrets/v1"
	template "github.com/external-secrets/external-secrets/pkg/template/v2"
	corev1 "k8s.io/api/core/v1"
)

type input struct {
	Template esv1.ExternalSecretTemplate `json:"template"`
	Data     map[string]string           `json:"data"`
}

func main() {
	var in input
	if err := json.NewDecoder(os.Stdin).Decode(&in); err != nil {
		end(err)
	}
	fetched := map[string][]byte{}
	for key, value := range in.Data {
		fetched[key] = []byte(value)
	}
	secret := &corev1.Secret{Data: map[string][]byte{}}
	secret.Labels, secret.Annotations = map[string]string{}, map[string]string{}
	// The order of externalsecret_controller_template.go, ApplyTemplate.
	for _, part := range []struct {
		texts  map[string]string
		target esv1.TemplateTarget
	}{
		{in.Template.Data, esv1.TemplateTargetData},
		{in.Template.Metadata.Labels, esv1.TemplateTargetLabels},
		{in.Template.Metadata.Annotations, esv1.TemplateTargetAnnotations},
	} {
		texts := map[string][]byte{}
		for key, text := range part.texts {
			texts[key] = []byte(text)
		}
		if err := template.Execute(texts, fetched, esv1.TemplateScopeValues, part.target, secret); err != nil {
			end(err)
		}
	}
	data := map[string]string{}
	for key, value := range secret.Data {
		data[key] = string(value)
	}
	out := map[string]any{"data": data, "labels": secret.Labels, "annotations": secret.Annotations}
	if err := json.NewEncoder(os.Stdout).Encode(out); err != nil {
		end(err)
	}
}

func end(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
