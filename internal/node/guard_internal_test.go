// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	logtest "github.com/sirupsen/logrus/hooks/test"

	"vxsnd/internal/config"
	"vxsnd/internal/fdb"
)

// What is known of the names of peers is shown, and what becomes of them is
// logged once.
func TestNamesOfPeers(t *testing.T) {
	const own, a, b, c = "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"
	cfg := config.Default()
	cfg.SrcIP = netip.MustParseAddr(own)
	cfg.SvcnodePeers = []config.Peer{
		{Addr: netip.MustParseAddr(own), Port: 1}, {Addr: netip.MustParseAddr(c), Port: 1}, {Host: "sn1", Port: 1},
		{Host: "sn2", Port: 2}, {Host: "sn3", Port: 3},
	}
	table := fdb.New(tableOptions(&cfg))
	synctest.Test(t, func(t *testing.T) {
		log, hook := logtest.NewNullLogger()
		g := newGuard(&cfg, table, log)
		var mu sync.Mutex
		var answers map[string][]string
		g.lookup = func(_ context.Context, host string) (addrs []netip.Addr, err error) {
			mu.Lock()
			defer mu.Unlock()
			for _, text := range answers[host] {
				addrs = append(addrs, netip.MustParseAddr(text))
			}
			if addrs == nil {
				err = &net.DNSError{Name: host, Err: "no such host", IsNotFound: true}
			}
			return addrs, err
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error)
		defer func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("got %v", err)
			}
		}()
		for i, step := range []struct {
			answers       map[string][]string
			others, names []string
			failed        []string
			log           []string
		}{
			{
				map[string][]string{"sn1": {own}, "sn2": {b, a}},
				[]string{c + ":1", "sn2:2", "sn3:3"}, []string{"10.0.0.1:1 sn1", "10.0.0.2:2 sn2", "10.0.0.3:2 sn2"}, []string{"sn3"},
				[]string{"warning peer name does not resolve, trying again: sn3"},
			},
			{
				map[string][]string{"sn1": {own}, "sn2": {a, b, a}}, // the same in another order
				[]string{c + ":1", "sn2:2", "sn3:3"}, []string{"10.0.0.1:1 sn1", "10.0.0.2:2 sn2", "10.0.0.3:2 sn2"}, []string{"sn3"},
				nil,
			},
			{
				map[string][]string{"sn1": {own}, "sn2": {a}, "sn3": {own, b}},
				[]string{c + ":1", "sn2:2", "sn3:3"}, []string{"10.0.0.1:1 sn1", "10.0.0.1:3 sn3", "10.0.0.2:2 sn2", "10.0.0.3:3 sn3"}, nil,
				[]string{"info peer name has other addresses: sn2, from 10.0.0.2 10.0.0.3, to 10.0.0.2", "info peer name resolves now: sn3, to 10.0.0.1 10.0.0.3"},
			},
			{
				map[string][]string{"sn1": {a}, "sn3": {own}},
				[]string{c + ":1", "sn1:1", "sn2:2"}, []string{"10.0.0.1:3 sn3", "10.0.0.2:1 sn1", "10.0.0.2:2 sn2"}, []string{"sn2"},
				[]string{
					"info peer name has other addresses: sn1, from 10.0.0.1, to 10.0.0.2",
					"info peer name has other addresses: sn3, from 10.0.0.1 10.0.0.3, to 10.0.0.1",
					"warning peer name does not resolve, trying again: sn2",
				},
			},
		} {
			mu.Lock()
			answers = step.answers
			mu.Unlock()
			hook.Reset()
			if i == 0 {
				go func() { done <- g.resolve(ctx) }()
			}
			pass(resolveAgain)

			var others []string
			for _, p := range g.others() {
				others = append(others, p.String())
			}
			if diff := cmp.Diff(step.others, others); diff != "" {
				t.Errorf("step %d: others (-want +got):\n%s", i, diff)
			}
			var names []string
			byAddr, failed := g.names()
			for ap, name := range byAddr {
				names = append(names, ap.String()+" "+name)
			}
			slices.Sort(names)
			if diff := cmp.Diff(step.names, names); diff != "" {
				t.Errorf("step %d: names (-want +got):\n%s", i, diff)
			}
			if diff := cmp.Diff(step.failed, slices.Sorted(maps.Keys(failed))); diff != "" {
				t.Errorf("step %d: names that do not resolve (-want +got):\n%s", i, diff)
			}
			var lines []string
			for _, e := range hook.AllEntries() {
				line := fmt.Sprintf("%s %s: %s", e.Level, e.Message, e.Data["peer"])
				for _, k := range []string{"from", "to"} {
					if v, ok := e.Data[k]; ok {
						line += fmt.Sprintf(", %s %s", k, v)
					}
				}
				lines = append(lines, line)
			}
			slices.Sort(lines) // names are looked up at once
			if diff := cmp.Diff(step.log, lines); diff != "" {
				t.Errorf("step %d: log (-want +got):\n%s", i, diff)
			}
		}
	})
}
