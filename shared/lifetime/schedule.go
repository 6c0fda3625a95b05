// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package lifetime

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/robfig/cron/v3"
)

const (
	// scheduleSamples is how many occurrences of a schedule are looked at for its gaps: more
	// than a year of daily ones.
	scheduleSamples = 400

	// maxSchedule is far beyond what five fields take.
	maxSchedule = 200
)

// scheduleField is what a field can hold: numbers, names of months and days, lists, ranges and
// steps. The parser would take a zone in front of them (CRON_TZ=…), which would move every
// rotation, panics over one that nothing follows (TZ=UTC), and takes words like @daily.
var scheduleField = regexp.MustCompile(`^[0-9A-Za-z*,/?-]+$`)

// parseSchedule reads five cron fields, which are in UTC.
func parseSchedule(text string) (cron.Schedule, error) {
	refuse := func(format string, args ...any) error {
		return fmt.Errorf(
			`rotation_schedule %.60q is not a cron expression of five fields, in UTC, such as "0 3 * * SUN": `+format,
			append([]any{text}, args...)...)
	}
	fields := strings.Fields(text)
	if len(text) > maxSchedule {
		return nil, refuse("it has %d characters, and %d is the most", len(text), maxSchedule)
	}
	if len(fields) != 5 {
		return nil, refuse("it has %d fields", len(fields))
	}
	for _, field := range fields {
		if !scheduleField.MatchString(field) {
			return nil, refuse("the field %q holds something else than numbers, names and * , / ? -", field)
		}
	}
	schedule, err := cron.NewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow).Parse(strings.Join(fields, " "))
	if err != nil {
		return nil, refuse("%w", err)
	}
	return schedule, nil
}
