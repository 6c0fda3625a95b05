// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package settings

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// row is one setting: what is documented and what is obeyed stand in one place.
type row struct {
	name    string
	def     string
	rule    string
	parse   func(value string) error
	purpose string
}

// fill sets every row of a table from the environment.
func fill(rows []row, getenv func(string) string) error {
	for _, r := range rows {
		value := cmp.Or(getenv(r.name), r.def)
		err := r.parse(value)
		var secret *secretError
		if errors.As(err, &secret) {
			return fmt.Errorf("%s: %w", r.name, err)
		}
		if err != nil {
			return fmt.Errorf("%s is %q: %w", r.name, value, err)
		}
	}
	return nil
}

// secretError refuses a value that may hold a secret, and is not repeated: errors end up in logs.
type secretError struct{ rule string }

// Error implements error.
func (e *secretError) Error() string { return e.rule }

// duration reads Go's form, and days, which is what ages are counted in.
func duration(into *time.Duration, least time.Duration) func(string) error {
	return func(value string) error {
		d, err := parseDuration(value)
		if err != nil {
			return errors.New("it is no duration: give one such as 90d, 12h or 30m")
		}
		if d < least {
			return fmt.Errorf("it must be %s or more", least)
		}
		*into = d
		return nil
	}
}

func parseDuration(value string) (time.Duration, error) {
	const day = 24 * time.Hour
	days, ok := strings.CutSuffix(value, "d")
	if !ok {
		return time.ParseDuration(value)
	}
	n, err := strconv.Atoi(days)
	if err != nil || n > 36500 {
		return 0, errors.New("not a number of days")
	}
	return time.Duration(n) * day, nil
}

func number(into *int, least, most int) func(string) error {
	return func(value string) error {
		n, err := strconv.Atoi(value)
		if err != nil || n < least || n > most {
			return fmt.Errorf("it must be a whole number from %d to %d", least, most)
		}
		*into = n
		return nil
	}
}

func boolean(into *bool) func(string) error {
	return func(value string) error {
		if value != "true" && value != "false" {
			return errors.New("it must be true or false")
		}
		*into = value == "true"
		return nil
	}
}

func choice(into *string, allowed ...string) func(string) error {
	return func(value string) error {
		if !slices.Contains(allowed, value) {
			return fmt.Errorf("it must be %s", strings.Join(allowed, " or "))
		}
		*into = value
		return nil
	}
}

// list reads names between commas, or a list in JSON: names may hold commas.
func list(into *[]string) func(string) error {
	return func(value string) error {
		*into = []string{}
		if strings.HasPrefix(value, `["`) {
			if err := json.Unmarshal([]byte(value), into); err != nil {
				return fmt.Errorf("it is no list of texts in JSON: %w", err)
			}
			return nil
		}
		for name := range strings.SplitSeq(value, ",") {
			if name = strings.TrimSpace(name); name != "" {
				*into = append(*into, name)
			}
		}
		return nil
	}
}

// patterns reads a list of patterns. One that cannot be read would protect nothing, and
// nobody would notice, so it is refused.
func patterns(into *[]string) func(string) error {
	read := list(into)
	return func(value string) error {
		if err := read(value); err != nil {
			return err
		}
		for _, pattern := range *into {
			if _, err := path.Match(pattern, ""); err != nil {
				return fmt.Errorf("%q is no pattern", pattern)
			}
			if i := strings.IndexAny(pattern, `;|$(){}"'<>:`); i >= 0 || strings.HasPrefix(pattern, "^") {
				return fmt.Errorf("%q can match no name: * is any text, ? any character, [a-z] one of some; more names stand between commas", pattern)
			}
		}
		return nil
	}
}

// notify reads where owners are told. Plain http is for this machine alone.
func notify(into *string) func(string) error {
	return func(value string) error {
		address, err := url.Parse(value)
		switch {
		case value == "", strings.HasPrefix(value, "arn:") && len(strings.Split(value, ":")) == 6 && strings.Contains(value, ":sns:"):
		case err == nil && address.Host != "" && address.User == nil &&
			(address.Scheme == "https" || address.Scheme == "http" && address.Hostname() == "127.0.0.1"):
		default:
			return &secretError{"it must be the ARN of an SNS topic, or an https address"}
		}
		*into = value
		return nil
	}
}

// accountName is what the secrets engine takes as one.
var accountName = regexp.MustCompile(`^[a-z0-9]([a-z0-9_.-]{0,126}[a-z0-9])?$`)

// checkAccounts refuses what can be no list of accounts: a name becomes part of Vault's paths.
func checkAccounts(names []string) error {
	for i, name := range names {
		if !accountName.MatchString(name) || strings.Contains(name, "..") {
			return fmt.Errorf("%q is no name of an account: they are lower case letters, digits, _, - and single dots", name)
		}
		if slices.Contains(names[:i], name) {
			return fmt.Errorf("the account %q stands twice", name)
		}
	}
	return nil
}

// accountNames reads a list of accounts.
func accountNames(into *[]string) func(string) error {
	return func(value string) error {
		if err := list(into)(value); err != nil {
			return err
		}
		return checkAccounts(*into)
	}
}

// Names returns every environment variable that the two functions' settings read.
func Names() (sweep, policySync []string) {
	return names(new(Sweep).rows()), names(new(PolicySync).rows())
}

// Description is one setting.
type Description struct{ Name, Default, Purpose string }

// Describe returns the two functions' settings.
func Describe() (sweep, policySync []Description) {
	for _, r := range new(Sweep).rows() {
		sweep = append(sweep, Description{r.name, r.def, r.purpose})
	}
	for _, r := range new(PolicySync).rows() {
		policySync = append(policySync, Description{r.name, r.def, r.purpose})
	}
	return sweep, policySync
}

func names(rows []row) []string {
	all := make([]string, 0, len(rows))
	for _, r := range rows {
		all = append(all, r.name)
	}
	return all
}

// Table is the reference of all settings, in Markdown.
func Table() string {
	var b strings.Builder
	b.WriteString("# Settings of the functions\n\n" +
		"[Use](README.md#use-it) · [Operate](README.md#operate-it) · [Develop](README.md#develop-it)\n\n" +
		"Read from the environment once, when a run begins. What does not fit is refused with one error, and nothing is done.\n" +
		"Durations are written like `90d`, `12h` or `30m`.\n")
	markdown(&b, "revoke-expired-keys", new(Sweep).rows())
	markdown(&b, "sync-policy", new(PolicySync).rows())
	return b.String()
}

func markdown(b *strings.Builder, function string, rows []row) {
	fmt.Fprintf(b, "\n## %s\n\n| setting | default | what it does | accepted |\n| --- | --- | --- | --- |\n", function)
	for _, r := range rows {
		def := "empty"
		if r.def != "" {
			def = "`" + r.def + "`"
		}
		fmt.Fprintf(b, "| `%s` | %s | %s | %s |\n", r.name, def, r.purpose, r.rule)
	}
}
