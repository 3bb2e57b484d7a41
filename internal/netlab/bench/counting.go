// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
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

// countingMembers are the numbers of members of each VNI.
var countingMembers = []int{8, 64}

// measureCounting compares flooding with figures per VNI and sender, and with
// these being scraped besides, to flooding without.
func (p *plan) measureCounting(lab *netlab.Lab) error {
	if err := p.build(lab, countedVNIs); err != nil {
		return err
	}
	defer p.sink.Close()
	socket := p.dir + "/metrics.sock"
	with := func(lines string, beside ...string) subject {
		start := func(n int) (*netlab.Process, error) { return p.startWith(n, countedVNIs, lines) }
		return subject{start: start, vnis: countedVNIs, beside: beside}
	}
	kinds := []struct {
		name string
		subject
	}{
		{"off", with("metrics_max_vnis = 0\n")},
		{"counted", with("")},
		{"scraped", with("metrics_listen = "+socket+"\n", p.self, "scrape", socket)},
	}
	rounds := max(p.rounds, countingRounds)
	fmt.Printf("\n%d VNIs, inner frame %d bytes, %d rounds of %s each, alternated; ratios to off of the same round, median and range\n\n",
		countedVNIs, p.inner, rounds, p.time)
	fmt.Printf("%8s  %-8s %12s %8s %-17s %14s %8s %-17s %8s %8s\n", "members", "figures", "copies/s", "ratio", "",
		"own CPU s/M", "ratio", "", "least", "ratio")
	for _, n := range countingMembers {
		all := make([][]result, len(kinds))
		for r := range rounds {
			for i := range kinds {
				// Each goes first as often as last, so that a machine that gets slower
				// disturbs all.
				k := (i + r) % len(kinds)
				if r%2 == 1 {
					k = len(kinds) - 1 - k
				}
				res, err := p.measure(n, kinds[k].subject)
				if err != nil {
					return fmt.Errorf("figures %s: %w", kinds[k].name, err)
				}
				all[k] = append(all[k], res)
			}
		}
		var base float64
		for k, kind := range kinds {
			least := least(all[k], result.ownPerMillion)
			if k == 0 {
				base = least
			}
			fmt.Printf("%8d  %-8s %12.0f %s %14.3f %s %8.3f %8.3f\n", n, kind.name,
				median(all[k], result.rate), ratios(all[k], all[0], result.rate),
				median(all[k], result.ownPerMillion), ratios(all[k], all[0], result.ownPerMillion), least, least/base)
		}
	}
	return nil
}

// ratios compares the results of rounds with those of a base: the median, the
// least and the most.
func ratios(rs, base []result, f func(result) float64) string {
	var v []float64
	for i := range rs {
		v = append(v, f(rs[i])/f(base[i]))
	}
	slices.Sort(v)
	return fmt.Sprintf("%8.3f %-17s", v[len(v)/2], fmt.Sprintf("(%.3f to %.3f)", v[0], v[len(v)-1]))
}

// least returns the least of f: what a busy machine disturbed least, where it
// can only add.
func least(rs []result, f func(result) float64) float64 {
	v := f(rs[0])
	for _, r := range rs[1:] {
		v = min(v, f(r))
	}
	return v
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
			return fmt.Errorf("scrape: status %s, %d bytes: %w", a.Status, n, err)
		}
	}
}
