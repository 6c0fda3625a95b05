# The engine for one OUTSCALE account: mount, account, role and policy.

terraform {
  required_providers {
    vault = {
      source = "hashicorp/vault"
    }
  }
}

provider "vault" {} # VAULT_ADDR and VAULT_TOKEN, of a token that may write these paths

resource "vault_mount" "outscale" {
  path = "outscale"
  type = "vault-plugin-secrets-cloudkeys"
}

# Without this a leaked key's id cannot be found in the audit log.
resource "vault_generic_endpoint" "audit" {
  path                 = "sys/mounts/${vault_mount.outscale.path}/tune"
  data_json            = jsonencode({ audit_non_hmac_response_keys = ["access_key"] })
  ignore_absent_fields = true
  disable_delete       = true
}

resource "vault_generic_endpoint" "account" {
  path = "${vault_mount.outscale.path}/config/default"
  # Not read: the engine replaces its own key, and a plan would want to put the first one back for ever. Where another field changes, the
  # first key is written again with it; the engine knows it as one that it has replaced, and keeps its own.
  disable_read = true
  data_json = jsonencode(merge(
    {
      provider        = "outscale"
      region          = var.region
      access_key      = var.access_key
      secret_key      = var.secret_key
      max_ttl         = var.max_ttl
      rotation_period = 604800
    },
    var.endpoint == "" ? {} : { endpoint = var.endpoint },
  ))
}

# The key that Terraform's state holds is dead after the first apply: nobody but the engine knows the one that replaces it.
resource "vault_generic_endpoint" "rotate_root" {
  path           = "${vault_mount.outscale.path}/rotate-root/default"
  data_json      = "{}"
  disable_read   = true
  disable_delete = true
  depends_on     = [vault_generic_endpoint.account]
}

# Durations in seconds and lists as lists, as the engine shows them: a plan then finds no difference.
resource "vault_generic_endpoint" "deploy" {
  path                 = "${vault_mount.outscale.path}/roles/deploy"
  data_json            = jsonencode({ account = "default", user_names = ["deploy"], ttl = 900, max_ttl = var.max_ttl })
  ignore_absent_fields = true
  depends_on           = [vault_generic_endpoint.account]
}

resource "vault_policy" "deploy" {
  name   = "deploy"
  policy = <<-EOT
    path "${vault_mount.outscale.path}/creds/deploy" { capabilities = ["read"] }
  EOT
}
