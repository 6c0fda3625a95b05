variable "access_key" {
  description = "The engine's first access key in the account."
  type        = string
}

variable "secret_key" {
  description = "Its secret. Give it as TF_VAR_secret_key, not in a file."
  type        = string
  sensitive   = true
}

variable "region" {
  type    = string
  default = "eu-west-2"
}

variable "max_ttl" {
  description = "Longest lease, in seconds."
  type        = number
  default     = 3600
}

variable "endpoint" {
  description = "URL of the API, where it is not that of the region."
  type        = string
  default     = ""
}
