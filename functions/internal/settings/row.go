// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package settings

import (
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"
	"time"
)

// row is one setting: what is documented and what is obeyed stand in one place.
type row[T any] struct {
	name    string
	def     string
	purpose string
	rule    string
	parse   func(into *T, value string) error
}

// duration reads Go's form, and days, which is what ages are counted in.
func duration[T any](field func(*T) *time.Duration, least time.Duration) func(*T, string) error {
	return func(into *T, value string) error {
		d, err := parseDuration(value)
		if err != nil {
			return errors.New("it is no duration: give one such as 90d, 12h or 30m")
		}
		if d < least {
			return fmt.Errorf("it must be %s or more", least)
		}
		*field(into) = d
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

func number[T any](field func(*T) *int, least, most int) func(*T, string) error {
	return func(into *T, value string) error {
		n, err := strconv.Atoi(value)
		if err != nil || n < least || n > most {
			return fmt.Errorf("it must be a whole number from %d to %d", least, most)
		}
		*field(into) = n
		return nil
	}
}

func boolean[T any](field func(*T) *bool) func(*T, string) error {
	return func(into *T, value string) error {
		if value != "true" && value != "false" {
			return errors.New("it must be true or false")
		}
		*field(into) = value == "true"
		return nil
	}
}

func choice[T any](field func(*T) *string, allowed ...string) func(*T, string) error {
	return func(into *T, value string) error {
		for _, a := range allowed {
			if value == a {
				*field(into) = value
				return nil
			}
		}
		return fmt.Errorf("it must be %s", strings.Join(allowed, " or "))
	}
}

// list reads names between commas.
func list[T any](field func(*T) *[]string) func(*T, string) error {
	return func(into *T, value string) error {
		names := []string{}
		for name := range strings.SplitSeq(value, ",") {
			if name = strings.TrimSpace(name); name != "" {
				names = append(names, name)
			}
		}
		*field(into) = names
		return nil
	}
}

// patterns reads a list of patterns. One that cannot be read would protect nothing, and
// nobody would notice, so it is refused.
func patterns[T any](field func(*T) *[]string) func(*T, string) error {
	read := list(field)
	return func(into *T, value string) error {
		if err := read(into, value); err != nil {
			return err
		}
		for _, pattern := range *field(into) {
			if _, err := path.Match(pattern, ""); err != nil {
				return fmt.Errorf("%q is no pattern", pattern)
			}
		}
		return nil
	}
}
