# Vault Agent leases a Huawei Cloud key, starts a command with it in its environment, and starts it again with each new key. Nothing is written to a disk.

auto_auth {
  method "approle" {
    config = {
      role_id_file_path                   = "role-id"
      secret_id_file_path                 = "secret-id"
      remove_secret_id_file_after_reading = false
    }
  }
}

template_config {
  exit_on_retry_failure = true
}

# The names that Huawei Cloud's SDKs read. Its Terraform provider reads HW_ACCESS_KEY and HW_SECRET_KEY.

env_template "HUAWEICLOUD_SDK_AK" {
  contents             = "{{ with secret \"huawei/creds/deploy\" }}{{ .Data.access_key }}{{ end }}"
  error_on_missing_key = true
}

env_template "HUAWEICLOUD_SDK_SK" {
  contents             = "{{ with secret \"huawei/creds/deploy\" }}{{ .Data.secret_key }}{{ end }}"
  error_on_missing_key = true
}

exec {
  command                   = ["./job"]
  restart_on_secret_changes = "always"
  restart_stop_signal       = "SIGTERM"
}
