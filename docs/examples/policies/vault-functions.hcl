path "outscale/config"            { capabilities = ["list"] }
path "outscale/config/*"          { capabilities = ["read"] }
path "outscale/info"              { capabilities = ["read"] }
path "outscale/keys"              { capabilities = ["list"] }
path "outscale/creds/functions-*" { capabilities = ["read"] }
path "outscale/policy/*"          { capabilities = ["read", "update"] }
path "sys/mounts/outscale/tune"   { capabilities = ["read"] }
path "auth/token/revoke-self"     { capabilities = ["update"] }
