path "outscale/metrics" { capabilities = ["read"] }
