# Vault Agent leases an OUTSCALE key, renews its lease, leases the next one when it ends, and writes the files that OUTSCALE's tools read.
# Start it in the home directory of the user who runs those tools: paths are relative to where it was started.

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

template { # osc-cli, osc-sdk-python, oapi-cli, osc-sdk-go
  source      = "osc-config.json.ctmpl"
  destination = ".osc/config.json"
  perms       = "0600"
}

template { # EnvironmentFile= of systemd, --env-file of a container, or `set -a; . ./outscale.env`
  source      = "outscale.env.ctmpl"
  destination = "outscale.env"
  perms       = "0600"
}

template { # aws iam --profile outscale --endpoint-url https://eim.eu-west-2.outscale.com
  source      = "aws-credentials.ctmpl"
  destination = ".aws/credentials"
  perms       = "0600"
}
