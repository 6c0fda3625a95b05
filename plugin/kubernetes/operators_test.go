// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

//go:build linux

package kubernetes

import (
	"crypto/rand"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/emulator"
)

// operator is one that is installed: its resources are known, and a service account of its own has the rights that its project gives it.
type operator struct {
	w    *world
	name string
	args []string
	env  []string
	*emulator.Process
}

// installVSO installs Vault Secrets Operator, and starts it.
func (w *world) installVSO(args ...string) *operator {
	w.t.Helper()
	source := w.source("vault-secrets-operator", "github.com/hashicorp/vault-secrets-operator")
	o := &operator{w: w, name: "vault-secrets-operator", args: append([]string{
		"--leader-elect=false", "--health-probe-bind-address=127.0.0.1:0", "--metrics-bind-address=0",
	}, args...)}
	o.install(filepath.Join(source, "chart/crds"), "vault-secrets-operator", "vault-secrets-operator-controller-manager",
		w.readFile(filepath.Join(source, "config/rbac/role.yaml")), "manager-role")
	o.env = append(o.env, "OPERATOR_NAMESPACE=vault-secrets-operator", "OPERATOR_POD_NAME=vault-secrets-operator")
	o.start()
	return o
}

// installESO installs External Secrets, and starts it.
func (w *world) installESO() *operator {
	w.t.Helper()
	source := w.source("external-secrets", "github.com/external-secrets/external-secrets")
	o := &operator{w: w, name: "external-secrets", args: []string{"--live-addr=127.0.0.1:0", "--metrics-addr=127.0.0.1:0"}}
	o.install(filepath.Join(source, "config/crds/bases"), "external-secrets", "external-secrets",
		ruled(w.readFile(filepath.Join(source, "deploy/charts/external-secrets/templates/rbac.yaml"))), "external-secrets-controller")
	o.start()
	return o
}

// ruled is the first role of External Secrets' chart, with all that the chart makes conditional.
func ruled(chart string) string {
	role, _, _ := strings.Cut(chart, "\n---")
	_, rules, _ := strings.Cut(role, "\nrules:")
	lines := []string{
		"apiVersion: rbac.authorization.k8s.io/v1", "kind: ClusterRole", "metadata: {name: external-secrets-controller}", "rules:",
	}
	for line := range strings.Lines(rules) {
		if !strings.Contains(line, "{{") {
			lines = append(lines, strings.TrimRight(line, "\n"))
		}
	}
	return strings.Join(lines, "\n")
}

// source is the folder of a pinned module's files.
func (w *world) source(pin, module string) string {
	w.t.Helper()
	download := exec.CommandContext(w.t.Context(), "go", "mod", "download", "-json", module)
	download.Dir = filepath.Join(repository, "scripts/pins", pin)
	out, err := download.Output()
	var found struct{ Dir string }
	if err == nil {
		err = json.Unmarshal(out, &found)
	}
	if err != nil {
		w.t.Fatalf("go mod download: %v: %s", err, out)
	}
	return found.Dir
}

func (w *world) readFile(path string) string {
	w.t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		w.t.Fatal(err)
	}
	return string(text)
}

// install makes its resources known, and gives its service account the role.
func (o *operator) install(definitions, namespace, account, role, roleName string) {
	o.w.t.Helper()
	var files []string
	for _, file := range mustGlob(o.w.t, filepath.Join(definitions, "*.yaml")) {
		if filepath.Base(file) != "kustomization.yaml" {
			files = append(files, "-f", file)
		}
	}
	o.w.kubectl(append([]string{"apply", "--server-side"}, files...)...)
	o.w.kubectlWith(role, "apply", "-f", "-")
	o.w.kubectl("create", "namespace", namespace)
	o.w.kubectl("-n", namespace, "create", "serviceaccount", account)
	o.w.kubectl("create", "clusterrolebinding", o.name, "--clusterrole="+roleName, "--serviceaccount="+namespace+":"+account)
	token := strings.TrimSpace(o.w.kubectl("-n", namespace, "create", "token", account))
	kubeconfig := filepath.Join(o.w.dir, o.name+".json")
	o.w.writeKubeconfig(kubeconfig, token)
	o.env = append(o.w.outside, "PATH="+os.Getenv("PATH"), "HOME="+o.w.dir, "KUBECONFIG="+kubeconfig)
}

// start runs the operator in a pod of its own.
func (o *operator) start() {
	o.w.t.Helper()
	command := exec.Command(binary(o.w.t, o.name), o.args...)
	command.Env = append([]string{"OPERATOR_POD_UID=" + rand.Text()}, o.env...)
	o.Process = o.w.launch(o.name, command)
}

// restart is what a new version, a drained node or a crash is.
func (o *operator) restart() {
	o.w.t.Helper()
	if err := o.Stop(syscall.SIGTERM); err != nil {
		o.w.t.Fatal(err)
	}
	o.start()
}
