package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// Where the chart mounts the anchors: from 2.11 on by themselves, up to 2.8 in linkerd-config with all else that identity and injector are told.
const (
	trustRootsFile = "/var/run/linkerd/identity/trust-roots/ca-bundle.crt"
	globalFile     = "/var/run/linkerd/config/global"
)

// identityContext is the part of `.data.global` that is about identity (linkerd2 2.7, proto/config/config.proto).
type identityContext struct {
	TrustDomain        string `json:"trustDomain"`
	TrustAnchorsPem    string `json:"trustAnchorsPem"`
	IssuanceLifetime   string `json:"issuanceLifetime"`
	ClockSkewAllowance string `json:"clockSkewAllowance"`
	Scheme             string `json:"scheme"`
}

// mountedContext is nil where no linkerd-config is mounted: from 2.11 on.
func mountedContext() (*identityContext, error) {
	text, err := os.ReadFile(globalFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var global struct {
		IdentityContext *identityContext `json:"identityContext"`
	}
	if err := json.Unmarshal(text, &global); err != nil {
		return nil, fmt.Errorf("%s: %w", globalFile, err)
	}
	if global.IdentityContext == nil {
		return nil, fmt.Errorf("%s: no identityContext", globalFile)
	}
	return global.IdentityContext, nil
}
