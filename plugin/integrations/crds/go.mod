// This module has no code. It pins the operators whose custom resource definitions the manifests of docs/examples/kubernetes are held against.
module github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/plugin/integrations/crds

go 1.26.5

require (
	github.com/external-secrets/external-secrets v1.3.2
	github.com/hashicorp/vault-secrets-operator v1.5.0
)
