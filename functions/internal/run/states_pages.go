// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package run

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/fleet"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/metrics"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/report"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/settings"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/sweep"
)

// The reports of a state machine's run are written step by step, and each step leaves in the run's
// own place what the next ones need of it:
//
//	list    run.json, and an index of accounts that were not reached yet
//	plan    found/<account>/<part>.json, sums/<account>/<part>.json, the account's page
//	decide  the index, with the sums and what was decided
//	apply   the same as plan, with what became of each key
//	close   the index, with what was done, and who approved or refused it
//
// A run that ends early leaves the index of its last step.

// runRecord is what is known of a run as a whole.
type runRecord struct {
	Mode    string    `json:"mode"`
	ModeWhy string    `json:"mode_why,omitempty"`
	Started time.Time `json:"started"`
	Verdict string    `json:"verdict,omitempty"`
	Why     string    `json:"why,omitempty"`
	Asked   time.Time `json:"asked,omitzero"` // a person
	// Unmatched are the patterns that protect nothing.
	Unmatched []string `json:"unmatched,omitempty"`
}

// statePages are the reports of a step.
func (s Env) statePages(about report.About, config settings.Sweep, part int) *pages {
	p := s.newPages(about, config)
	p.folder, p.part = s.reports(), part
	return p
}

func (s Env) partName(kind, account string, part int) string {
	return s.inRun(kind + "/" + url.PathEscape(account) + "/" + strconv.Itoa(part) + ".json")
}

// keepFound keeps the page of a part that was planned.
func (p *pages) keepFound(ctx context.Context, result sweep.Result) error {
	return p.keepPart(ctx, result.Accounts[0], result.Findings())
}

// keepApplied puts what became of the keys beside all that the plan has seen. A part that takes more
// than one invocation is applied again from its beginning: what was done before stays done.
func (p *pages) keepApplied(ctx context.Context, result sweep.Result) error {
	r := result.Accounts[0]
	text, err := p.env.Archive.Get(ctx, p.env.partName("found", r.Account, p.part))
	if err != nil {
		return err
	}
	became, ids := map[string]sweep.Finding{}, []string{}
	for key, err := range result.Findings() {
		if err != nil {
			return err
		}
		became[key.AccessKey], ids = key, append(ids, key.AccessKey)
	}
	planned := r
	if text != nil {
		if err := json.NewDecoder(bytes.NewReader(text)).Decode(&planned); err != nil {
			return fmt.Errorf("reading what the plan of %q has seen: %w", r.Account, err)
		}
	}
	planned.Problem = r.Problem
	return p.keepPart(ctx, planned, func(yield func(sweep.Finding, error) bool) {
		left := maps.Clone(became)
		for key, err := range foundKeys(text) {
			now, is := became[key.AccessKey]
			if delete(left, key.AccessKey); is && key.Outcome != sweep.OutcomeDeactivated && key.Outcome != sweep.OutcomeDeleted {
				now.Used = key.Used
				key = now
			}
			if !yield(key, err) || err != nil {
				return
			}
		}
		for _, id := range ids {
			if key, is := left[id]; is && !yield(key, nil) {
				return
			}
		}
	})
}

// foundKeys yields the keys of what keepPart has kept of a part; of nothing, none.
func foundKeys(text []byte) iter.Seq2[sweep.Finding, error] {
	return func(yield func(sweep.Finding, error) bool) {
		lines := json.NewDecoder(bytes.NewReader(text))
		err := lines.Decode(new(sweep.AccountResult))
		for err == nil {
			var key sweep.Finding
			if err = lines.Decode(&key); err == nil && !yield(key, nil) {
				return
			}
		}
		if !errors.Is(err, io.EOF) {
			yield(sweep.Finding{}, fmt.Errorf("reading what a plan has seen: %w", err))
		}
	}
}

// keepPart keeps the page of a part, and what its plan has seen, or what became of that: a line of the account, and one of each key,
// with whole ids, which the archive keeps. Nothing holds all of them at once: the command plans an account in one part, however large.
func (p *pages) keepPart(ctx context.Context, r sweep.AccountResult, keys iter.Seq2[sweep.Finding, error]) error {
	p.write(ctx, r, keys, nil)
	ctx = context.WithoutCancel(ctx)
	if p.sumOf(r.Account).Planned > 0 { // else nothing is ever applied of it
		_, err := p.env.Archive.Put(ctx, p.env.partName("found", r.Account, p.part), "application/x-ndjson", func(w io.Writer) error {
			out := bufio.NewWriter(w)
			lines := json.NewEncoder(out) // whose errors are the writer's, which keeps them until Flush
			_ = lines.Encode(r)
			for key, err := range keys {
				if err != nil {
					return err
				}
				_ = lines.Encode(key)
			}
			return out.Flush()
		})
		if err != nil {
			return err
		}
	}
	return p.env.putJSON(ctx, p.env.partName("sums", r.Account, p.part), *p.sumOf(r.Account))
}

// listed writes the index of a run that has only begun.
func (p *pages) listed(ctx context.Context, names []string) error {
	for _, name := range names {
		p.sums = append(p.sums, report.Sum{Account: name})
	}
	p.index(ctx, 0, nil)
	if err := p.lost(); err != nil {
		return err
	}
	return p.env.putJSON(ctx, p.env.inRun("run.json"), runRecord{
		Mode: p.config.Mode, ModeWhy: p.config.ModeWhy, Started: p.started.UTC().Truncate(time.Second),
	})
}

// record reads what is known of the run.
func (p *pages) record(ctx context.Context) (runRecord, error) {
	record := runRecord{Mode: p.config.Mode, ModeWhy: p.config.ModeWhy, Started: p.started}
	text, err := p.env.Archive.Get(ctx, p.env.inRun("run.json"))
	if err != nil || text == nil {
		return record, err
	}
	if err := json.Unmarshal(text, &record); err != nil {
		return record, fmt.Errorf("reading %s: %w", p.env.inRun("run.json"), err)
	}
	return record, nil
}

// readSums puts the parts of all accounts together.
func (p *pages) readSums(ctx context.Context, orders []order) error {
	p.sums = make([]report.Sum, len(orders))
	problems := make([]error, len(orders))
	fleet.Each(readers, len(orders), func(i int) { p.sums[i], problems[i] = p.readSum(ctx, orders[i].Accounts[0]) })
	return cmp.Or(problems...)
}

func (p *pages) readSum(ctx context.Context, account string) (report.Sum, error) {
	sum := report.Sum{Account: account}
	for part := 0; part == 0 || sum.Partial; part++ {
		text, err := p.env.Archive.Get(ctx, p.env.partName("sums", account, part))
		if err != nil {
			return sum, err
		}
		if text == nil {
			break
		}
		var next report.Sum
		if err := json.Unmarshal(text, &next); err != nil {
			return sum, fmt.Errorf("reading %s: %w", p.env.partName("sums", account, part), err)
		}
		sum = sum.Add(next)
	}
	if !sum.Reached {
		sum.LastGood = p.lastGood(ctx, account)
	}
	return sum, nil
}

// decided writes the index when the plans of all accounts were decided on, and returns where it is.
func (p *pages) decided(ctx context.Context, v *Verdict, orders []order, plans []accountPlan) (string, error) {
	if err := p.readSums(ctx, orders); err != nil {
		return "", err
	}
	for i, plan := range plans {
		sum := &p.sums[i]
		if !plan.whole && sum.Problem == "" {
			sum.Problem = "it has no whole plan, and is left alone"
		}
		if plan.whole { // what is applied is the plan, and not what is shown of it
			sum.Reached, sum.Seen, sum.Planned, sum.PlannedByClass = true, plan.seen, plan.planned, plan.byClass
		}
		sum.Tripped = cmp.Or(sum.Tripped, plan.tripped)
	}
	record, err := p.record(ctx)
	if err != nil {
		return "", err
	}
	record.Mode, record.ModeWhy, record.Verdict, record.Why = p.config.Mode, p.config.ModeWhy, v.Verdict, v.Why
	record.Unmatched = unmatched(plans)
	if v.Verdict == VerdictApprove {
		record.Asked = time.Now().UTC().Truncate(time.Second)
	}
	if err := p.env.putJSON(ctx, p.env.inRun("run.json"), record); err != nil {
		return "", err
	}
	var approval *report.Approval
	if !record.Asked.IsZero() {
		approval = &report.Approval{Asked: record.Asked}
	}
	over := v.Verdict != VerdictApply && v.Verdict != VerdictApprove
	return p.overall(ctx, record, approval, over)
}

// overall writes the index of a run of which more is known than of one account.
func (p *pages) overall(ctx context.Context, record runRecord, approval *report.Approval, over bool) (string, error) {
	x := report.Index{
		About: p.about, Mode: record.Mode, ModeWhy: record.ModeWhy, Started: record.Started, Sums: p.sums,
		OwnersTold: p.config.Notify != "", Verdict: record.sentence(), Approval: approval, Unmatched: record.Unmatched, Plan: p.plan,
	}
	if over {
		x.Took = max(time.Since(record.Started), 1)
	}
	return p.writeIndex(ctx, x)[0], p.lost()
}

// sentence is the verdict for people.
func (r runRecord) sentence() string {
	text := map[string]string{
		VerdictApply: "the plans are allowed together, and applied", VerdictApprove: "the plans are allowed together, if a person approves",
		VerdictReport: "nothing is applied: the run reports", VerdictNothing: "there is nothing to change",
		VerdictTripped: "nothing of any account is applied",
	}[r.Verdict]
	if r.Why != "" && text != "" {
		text += ": " + r.Why
	}
	return text
}

// CloseAnswer is what the phase close answers.
type CloseAnswer struct {
	Page string `json:"page"` // the run's index
}

// closedName is there when a state machine's run is over.
const closedName = "closed.json"

// closeForGood closes a run of which nothing is applied any more. A run of the command's closes each time that it is cut off.
func (s Env) closeForGood(ctx context.Context, event settings.SweepEvent) (*CloseAnswer, error) {
	answer, err := s.closeRun(ctx, event)
	if err != nil {
		return nil, err
	}
	return answer, s.putJSON(ctx, s.inRun(closedName), time.Now().UTC().Truncate(time.Second))
}

// closeRun writes the index of a run whose changes are over, or whose plans a person has refused.
func (s Env) closeRun(ctx context.Context, event settings.SweepEvent) (*CloseAnswer, error) {
	config, about, err := s.inStates(event)
	if err != nil {
		return nil, err
	}
	p := s.statePages(about, config, 0)
	orders, err := s.readOrders(ctx)
	if err != nil {
		return nil, err
	}
	if err := p.readSums(ctx, orders); err != nil {
		return nil, err
	}
	record, err := p.record(ctx)
	if err != nil {
		return nil, err
	}
	approval, err := s.approval(ctx, record)
	if err != nil {
		return nil, err
	}
	if record.Verdict == VerdictApply || approval.Given() {
		changes, err := s.readChanges(ctx)
		if err != nil {
			return nil, err
		}
		s.lost(ctx, metrics.Close(s.Metrics, s.Function, p.unapplied(changes)))
	}
	place, err := p.overall(ctx, record, approval, true)
	return &CloseAnswer{place}, err
}

// approval is what the state machine has written down of a person's answer; nil: nobody was asked.
func (s Env) approval(ctx context.Context, record runRecord) (*report.Approval, error) {
	if record.Asked.IsZero() {
		return nil, nil
	}
	a := &report.Approval{Asked: record.Asked}
	approved, err := s.approvalAnswer(ctx, "approved-by.json")
	if err != nil {
		return nil, err
	}
	if approved != nil {
		a.Answered, a.Answer = approved.At, approved.says()
		return a, nil
	}
	refused, err := s.approvalAnswer(ctx, "refused-by.json")
	if err != nil || refused == nil {
		return a, err
	}
	a.Answered = refused.At
	var failure struct{ Error, Cause string }
	switch err := json.Unmarshal(refused.Answer, &failure); {
	case err != nil:
		return nil, fmt.Errorf("reading %s: %w", s.inRun("refused-by.json"), err)
	case failure.Error == "States.Timeout":
		a.Late = true
	default:
		a.Refused, a.Answer = true, shortened(strings.TrimSuffix(failure.Error+": "+failure.Cause, ": "))
	}
	return a, nil
}

// approvalAnswer is an answer as the state machine writes it down.
type approvalAnswer struct {
	At     time.Time       `json:"at"`
	Answer json.RawMessage `json:"answer"`
}

// approvalAnswer is nil where there is none.
func (s Env) approvalAnswer(ctx context.Context, name string) (*approvalAnswer, error) {
	text, err := s.Archive.Get(ctx, s.inRun(name))
	if err != nil || text == nil {
		return nil, err
	}
	var quoted string
	if json.Unmarshal(text, &quoted) == nil { // as Step Functions store a text: in quotes
		text = []byte(quoted)
	}
	var answer approvalAnswer
	if err := json.Unmarshal(text, &answer); err != nil {
		return nil, fmt.Errorf("reading %s: %w", s.inRun(name), err)
	}
	return &answer, nil
}

// longestAnswer bounds what a page shows of an answer.
const longestAnswer = 500

// says is the answer as it is shown: who approved, where it says that alone, or all of it.
func (a approvalAnswer) says() string {
	var fields map[string]any
	text := strings.TrimSpace(string(a.Answer))
	if json.Unmarshal(a.Answer, &fields) == nil {
		name, named := fields["approved_by"].(string)
		switch {
		case len(fields) == 0:
			text = ""
		case named && len(fields) == 1:
			text = name
		}
	}
	return shortened(text)
}

func shortened(text string) string {
	if letters := []rune(text); len(letters) > longestAnswer {
		return string(letters[:longestAnswer]) + "…"
	}
	return text
}
