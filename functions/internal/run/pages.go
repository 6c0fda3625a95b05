// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package run

import (
	"cmp"
	"context"
	"io"
	"iter"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/archive"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/fleet"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/report"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/settings"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/sweep"
)

// pages keeps the reports of one run: each account's as soon as the account is over, and the index
// over them at the beginning, now and then, and at the end. A run that is killed leaves an index,
// and the page of every account that it has gone over.
//
//	reports/<run>/index.html, .json
//	reports/<run>/<account>.html, .json, .csv
type pages struct {
	env    Env
	about  report.About
	config settings.Sweep
	folder string // ends in /
	part   int    // of the one account that a step of a state machine plans or applies

	provisional bool         // the run goes on with what was planned: it is not a good one yet
	plan        *report.Plan // that it writes or applies

	started time.Time
	sums    []report.Sum // of all accounts of the run, in their order
	places  []string     // of accounts' files: the first of them
	indexed time.Time    // when the index was written last
	problem string       // why the run ended before it came to an account
	err     error
}

const (
	// indexEvery is how old the index of a run may be that is under way.
	indexEvery = 30 * time.Second
	// namedPlaces is how many files an answer names: Lambda takes 6 MB at most.
	namedPlaces = 60
)

// newPages begins the reports of a run that one process carries out.
func (s Env) newPages(about report.About, config settings.Sweep) *pages {
	now := time.Now()
	return &pages{env: s, about: about, config: config, plan: s.file, folder: s.folder(now), started: now}
}

// folder is where a run's reports stand. It sorts them by their time; the function and the request
// tell runs of one moment apart, and two attempts of one schedule.
func (s Env) folder(started time.Time) string { return "reports/" + s.runID(started) + "/" }

// runID names a run that has no name.
func (s Env) runID(started time.Time) string {
	at := started.UTC().Format("2006-01-02T15-04-05.000Z")
	return strings.Join([]string{at, url.PathEscape(s.Function), url.PathEscape(cmp.Or(s.Request, "local"))}, "-")
}

// begin writes the index of a run that has gone over no account yet.
func (p *pages) begin(ctx context.Context, accounts []fleet.Account) {
	for _, account := range accounts {
		if len(p.config.Accounts) > 0 && !slices.Contains(p.config.Accounts, account.Name) {
			continue
		}
		p.sums = append(
			p.sums,
			report.Sum{Account: account.Name, Provider: account.Provider, AccountID: account.AccountID, Region: account.Region},
		)
	}
	if time.Since(p.indexed) >= indexEvery {
		p.index(ctx, 0, nil)
	}
}

// account keeps the reports of an account that is over. After a cancelled run there is little time:
// first the keys are given back, and rest writes what is missing.
func (p *pages) account(ctx context.Context, r sweep.AccountResult, keys iter.Seq2[sweep.Finding, error]) {
	if ctx.Err() != nil || p.env.Archive == nil {
		return
	}
	p.write(ctx, r, keys, nil)
	if time.Since(p.indexed) >= indexEvery {
		p.index(ctx, 0, nil)
	}
}

// rest keeps what the run left to it, and the index of a run that is over.
func (p *pages) rest(ctx context.Context, result sweep.Result) ([]string, error) {
	if p.env.Archive == nil {
		return nil, nil
	}
	for _, r := range result.Accounts {
		if sum := p.sumOf(r.Account); !sum.Reached {
			p.write(ctx, r, result.Of(r.Account), result.Unmatched)
		}
	}
	fleet.Each(readers, len(p.sums), func(i int) {
		if !p.sums[i].Reached {
			p.sums[i].LastGood = p.lastGood(ctx, p.sums[i].Account)
		}
	})
	places := append(p.places, p.index(ctx, max(time.Since(p.started), 1), result.Unmatched)...)
	return places, p.lost()
}

// lost tells that a report could not be kept.
func (p *pages) lost() error {
	if p.err != nil {
		return &ReportLostError{p.err}
	}
	return nil
}

func (p *pages) sumOf(account string) *report.Sum {
	for i := range p.sums {
		if p.sums[i].Account == account {
			return &p.sums[i]
		}
	}
	p.sums = append(p.sums, report.Sum{Account: account})
	return &p.sums[len(p.sums)-1]
}

// write keeps the three files of an account, and its sum.
func (p *pages) write(ctx context.Context, r sweep.AccountResult, keys iter.Seq2[sweep.Finding, error], unmatched []string) {
	a := report.Account{
		About: p.about, Mode: p.config.Mode, ModeWhy: p.config.ModeWhy, Started: p.started, Took: time.Since(p.started), Result: r, Part: p.part,
		OwnersTold: p.config.Notify != "", Unmatched: unmatched, WholeIDs: p.config.ReportIDs == settings.WholeIDs, Findings: keys,
		Undecided: p.provisional, PlanAlone: p.plan != nil && p.plan.Applied,
	}
	var sum report.Sum
	name := p.folder + report.FileName(r.Account, p.part)
	for _, f := range []file{
		{".json", "application/json", a.JSON},
		{".html", "text/html; charset=utf-8", func(w io.Writer) (err error) { sum, err = a.HTML(w); return err }},
		{".csv", "text/csv; charset=utf-8", a.CSV},
	} {
		p.put(ctx, name+f.suffix, f, len(p.places) < namedPlaces)
	}
	if !sum.Reached { // the page could not be written
		if sum, _ = a.Sum(); !sum.Reached {
			sum.Account, sum.Reached = r.Account, true
		}
	}
	sum.LastGood = p.lastGood(ctx, r.Account)
	if sum.Good() && p.part == 0 && (!p.provisional || sum.Planned == 0) {
		p.wasGood(ctx, r.Account)
	}
	*p.sumOf(r.Account) = sum
}

func (p *pages) put(ctx context.Context, name string, f file, named bool) string {
	place, err := p.env.Archive.Put(context.WithoutCancel(ctx), name, f.contentType, f.write)
	switch {
	case err != nil && p.err == nil:
		p.err = err
	case err == nil && named:
		p.places = append(p.places, place)
	}
	return place
}

// index writes the index; took is 0 where the run is not over.
func (p *pages) index(ctx context.Context, took time.Duration, unmatched []string) (places []string) {
	return p.writeIndex(ctx, report.Index{
		About: p.about, Mode: p.config.Mode, ModeWhy: p.config.ModeWhy, Started: p.started, Took: took, Sums: p.sums,
		OwnersTold: p.config.Notify != "", Unmatched: unmatched, Plan: p.plan, Problem: p.problem,
	})
}

// failed keeps why nothing came of a run, or of its one account: also a run that Vault does not let in has a page.
func (p *pages) failed(ctx context.Context, accounts []string, problem error) {
	if len(p.sums) == 0 {
		p.problem = problem.Error()
	} else if len(accounts) == 1 {
		p.sumOf(accounts[0]).Problem = problem.Error()
	}
	p.index(ctx, max(time.Since(p.started), 1), nil)
}

func (p *pages) writeIndex(ctx context.Context, x report.Index) (places []string) {
	if p.env.Archive == nil {
		return nil
	}
	p.indexed = time.Now()
	for _, f := range []file{{".html", "text/html; charset=utf-8", x.HTML}, {".json", "application/json", x.JSON}} {
		places = append(places, p.put(ctx, p.folder+"index"+f.suffix, f, false))
	}
	return places
}

// goodRun is when an account was last gone over whole, without a problem.
type goodRun struct {
	At time.Time `json:"at"`
}

func (p *pages) good() archive.State[goodRun] {
	return archive.State[goodRun]{Archive: p.env.Archive, Folder: "state/last-good/"}
}

// wasGood remembers that an account was gone over whole. It is no failure of the run where that is
// forgotten.
func (p *pages) wasGood(ctx context.Context, account string) {
	err := p.good().Save(context.WithoutCancel(ctx), account, goodRun{p.started.UTC().Truncate(time.Second)})
	if err != nil {
		p.env.Log.WarnContext(ctx, "that the account was gone over without a problem is forgotten", "account", account, "problem", err.Error())
	}
}

// lastGood is the last good run of an account; zero: none is known.
func (p *pages) lastGood(ctx context.Context, account string) time.Time {
	good, err := p.good().Load(context.WithoutCancel(ctx), account)
	if err != nil {
		p.env.Log.WarnContext(ctx, "when an account was last gone over without a problem is not "+
			"known", "account", account, "problem", err.Error())
	}
	return good.At
}
