module github.com/hashicorp/vault-plugin-auth-azure

go 1.26

require github.com/hashicorp/vault/sdk v0.9.2
