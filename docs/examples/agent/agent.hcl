# Vault Agent leases an OUTSCALE key, renews its lease, leases the next one when it ends, and writes the files that OUTSCALE's tools read.
# Paths are relative to where it is started. All that it writes is in the folder cloudkeys: your own profiles stay as they are.

auto_auth {
  method "approle" {
    config = {
      role_id_file_path                   = "role-id"
      secret_id_file_path                 = "secret-id"
      remove_secret_id_file_after_reading = false # it must log in again after a restart
    }
  }
}

template_config {
  exit_on_retry_failure = true # what supervises the agent starts it again, and sees that it failed
}

# All templates that read the same path share one lease, and so one key.

template { # HOME=cloudkeys osc-cli, OSC_CONFIG_FILE=cloudkeys/.osc/config.json for osc-sdk-python
  source      = "osc-config.json.ctmpl"
  destination = "cloudkeys/.osc/config.json"
  perms       = "0600"
}

template { # EnvironmentFile= of systemd, --env-file of a container, or `set -a; . ./cloudkeys/outscale.env`
  source      = "outscale.env.ctmpl"
  destination = "cloudkeys/outscale.env"
  perms       = "0600"
}

template { # AWS_SHARED_CREDENTIALS_FILE=cloudkeys/aws-credentials aws iam --profile outscale --endpoint-url https://eim.eu-west-2.outscale.com
  source      = "aws-credentials.ctmpl"
  destination = "cloudkeys/aws-credentials"
  perms       = "0600"
}
