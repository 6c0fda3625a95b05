// The source of External Secrets, which build.sh builds by build.mod without most of its clouds.
module github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/scripts/pins/external-secrets

go 1.26

require github.com/external-secrets/external-secrets v0.20.4
