path "outscale/creds/deploy" { capabilities = ["read"] }
