// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"time"

	"vxsnd/internal/netlab"
)

// What counting is measured with. So many VNIs have figures of their own by
// default (metrics_max_vnis).
const (
	countedVNIs    = 1000
	countingRounds = 5 // at least
	scrapeEvery    = time.Second
)

// measureCounting compares flooding with figures per VNI and sender, and with
// these being scraped besides, to flooding without.
func (p *plan) measureCounting(nl *netlab.Lab) error {
	l, err := p.buildLab(nl)
	if err != nil {
		return err
	}
	defer l.headend.Close()
	counting := func(name, lines string) contender {
		return contender{name: name, queues: true, ttl: sentTTL - 1,
			begin: func(l *lab, t table) (*running, error) { return l.beginNode("raw", t, lines) }}
	}
	kinds := []contender{
		counting("off", "metrics_max_vnis = 0\n"),
		counting("counted", ""),
		{name: "scraped", queues: true, ttl: sentTTL - 1, begin: (*lab).beginScraped},
	}
	rounds := max(p.rounds, countingRounds)
	fmt.Printf("\n%d VNIs, %s, %d rounds, alternated; ratios to off of the same round, median and range\n\n", countedVNIs, small, rounds)
	fmt.Printf("%8s  %-8s %12s %8s %-17s %14s %8s %-17s %8s %8s\n", "members", "figures", "copies/s", "ratio", "",
		"own CPU s/M", "ratio", "", "least", "ratio")
	rate, own := func(f figure) float64 { return f.rate }, func(f figure) float64 { return f.own }
	for _, n := range []int{8, 64} {
		if p.only != 0 && n != p.only {
			continue
		}
		t, rs := table{members: n, vnis: countedVNIs}, results{}
		for r := range rounds {
			for i := range kinds {
				// Each goes first as often as last, so that a machine that gets slower
				// disturbs all.
				k := (i + r) % len(kinds)
				if r%2 == 1 {
					k = len(kinds) - 1 - k
				}
				if err := l.session(&kinds[k], trial{table: t, kinds: []kind{small}}, rs); err != nil {
					return fmt.Errorf("figures %s, %s: %w", kinds[k].name, t, err)
				}
			}
		}
		base := rs[key{t, kinds[0].name, small}]
		for _, c := range kinds {
			fs := rs[key{t, c.name, small}]
			fmt.Printf("%8d  %-8s %12.0f %s %14.3f %s %8.3f %8.3f\n", n, c.name, median(fs, rate), ratios(fs, base, rate),
				median(fs, own), ratios(fs, base, own), leastOwn(fs), leastOwn(fs)/leastOwn(base))
		}
	}
	return nil
}

// ratios compares the figures of rounds with those of a base: the median, the
// least and the most.
func ratios(fs, base []figure, of func(figure) float64) string {
	var v []float64
	for i := range fs {
		v = append(v, of(fs[i])/of(base[i]))
	}
	slices.Sort(v)
	return fmt.Sprintf("%8.3f %-17s", v[len(v)/2], fmt.Sprintf("(%.3f to %.3f)", v[0], v[len(v)-1]))
}

// leastOwn returns the program's least CPU time per million copies: that of the
// round which a busy machine disturbed least, where it can only add.
func leastOwn(fs []figure) float64 {
	return slices.MinFunc(fs, func(a, b figure) int { return cmp.Compare(a.own, b.own) }).own
}

// beginScraped starts vxsnd, and beside the sender what asks it for its metrics.
func (l *lab) beginScraped(t table) (*running, error) {
	socket := l.dir + "/metrics.sock"
	r, err := l.beginNode("raw", t, "metrics_listen = "+socket+"\n")
	if err != nil {
		return nil, err
	}
	p, err := l.start(l.sender, senderCPU, l.self, "scrape", socket)
	if err != nil {
		return nil, err
	}
	end := r.end
	r.end = func(ctx context.Context, hard bool) error {
		return errors.Join(ender(p)(ctx, false), end(ctx, hard))
	}
	return r, nil
}

// scrape asks for the metrics again and again, as Prometheus does, until it is
// stopped. It is enough to read the answer.
func scrape(socket string) error {
	c := http.Client{Transport: &http.Transport{
		DisableCompression: true, // asked for below, and not undone
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", socket)
		},
	}}
	for ; ; time.Sleep(scrapeEvery) {
		r, err := http.NewRequest(http.MethodGet, "http://vxsnd/metrics", nil)
		if err != nil {
			return err
		}
		r.Header.Set("Accept-Encoding", "gzip")
		a, err := c.Do(r)
		if err != nil {
			return err
		}
		n, err := io.Copy(io.Discard, a.Body)
		a.Body.Close()
		if err != nil || a.StatusCode != http.StatusOK || n == 0 {
			return errors.Join(fmt.Errorf("scrape: status %s, %d bytes", a.Status, n), err)
		}
	}
}
