// SPDX-License-Identifier: Apache-2.0

package prom_test

import (
	"flag"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/common/expfmt"
	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"

	"vxsnd/internal/metrics"
	"vxsnd/internal/metrics/prom"
	"vxsnd/internal/vxlan"
)

var update = flag.Bool("update", false, "write testdata anew")

// full returns figures that are all different from each other and from 0.
func full() prom.Figures {
	n := uint64(0)
	next := func() uint64 { n++; return n }
	level := func() int { return int(next()) }
	names := func(keys ...string) map[string]uint64 {
		out := map[string]uint64{}
		for _, k := range keys {
			out[k] = next()
		}
		return out
	}
	counts := func() (c metrics.VNICount) {
		c.Packets, c.Bytes, c.Copies, c.CopyBytes = next(), next(), next(), next()
		c.Drops[metrics.DropNoMember], c.Drops[metrics.DropTTL], c.Drops[metrics.DropBlocked] = next(), next(), next()
		return c
	}
	f := prom.Figures{
		Engine: "raw", EngineReason: "no_btf", Started: time.UnixMilli(1_700_000_000_500), Ready: true, Alive: true,
		FailedChecks: level(), LogLinesLost: next(),
		Flood: metrics.FloodCount{
			VNICount:   metrics.VNICount{Packets: next(), Bytes: next(), Copies: next(), CopyBytes: next()},
			Fragmented: next(), Learned: next(), Loops: next(),
		},
		ReceiveQueue: level(), SendQueue: level(),
		Kernel: &prom.Kernel{
			VNIs: level(), Members: level(), Bytes: level(), Devices: level(), RawVNIs: map[string]int{"held": level(), "pending": level()},
			Pending: 5, Packets: next(), Copies: next(), HandedUp: names("sender", "vni"), Differences: next(),
		},
		Latency: metrics.LatencyCount{
			Bounds: []time.Duration{time.Microsecond, time.Millisecond}, Counts: []uint64{3, 4, 5},
			Sum: 1500 * time.Millisecond, Count: 12,
		},
		Table: prom.Table{
			VNIs: level(), Members: level(), Tombstones: level(), Entries: map[string]int{"data": level(), "peer": level()},
			MaxVNIs: level(), MaxMembers: level(), MaxEntries: level(), MaxLearned: level(),
			Expired: next(), Evicted: next(), Withdrawn: next(), Replaced: next(), Refused: names("vnis", "members"),
		},
		Registration: prom.Registration{
			Messages: map[prom.Message]uint64{
				{Version: "1", Verdict: "registration"}: next(), {Version: "3", Verdict: "registration"}: next(),
				{Version: "unknown", Verdict: "version"}: next(),
			},
			ReadErrors: next(), Entries: names("added", "refreshed"), Refused: names("entries"), LeftOut: names("loopback"),
			Questions: next(), Merged: next(), Dropped: next(), Withheld: next(), UnansweredVNIs: next(),
			Answers: next(), Empty: next(), Abandoned: next(), Cut: next(),
			AnswerMessages: next(), AnswerBytes: next(), WriteErrors: next(),
		},
		Peering: prom.Peering{
			Connections: names("update", "not_peer"), AcceptErrors: next(), Answers: next(), AnswerEntries: next(),
			Entries: names("added"), Refused: names("owned"),
		},
		Peers: []prom.Peer{
			{
				Name: "192.0.2.2:10001", Up: true, Heard: 2500 * time.Millisecond, Queue: level(), Waiting: level(),
				Relayed: next(), Dropped: next(), RelayErrors: next(),
				Updates: next(), UpdateConnections: next(), UpdateErrors: next(),
				Dumps: next(), DumpErrors: next(), DumpTime: 1250 * time.Millisecond, DumpEntries: level(), Differ: level(),
			},
			{Name: "sn3.example.net", Heard: -1},
		},
		Anycast: &prom.Anycast{Installed: true, Draining: true},
		Capture: prom.Capture{Running: level(), Packets: next(), Lost: next()},
		Clients: level(),
		Other:   counts(),
	}
	for d := range f.Flood.Drops {
		f.Flood.Drops[d] = next()
	}
	for _, vni := range []vxlan.VNI{10, 20} {
		f.VNIs = append(f.VNIs, prom.VNI{VNI: vni, Members: level(), VNICount: counts()})
	}
	return f
}

// collector returns a collector of what *f is at each scrape.
func collector(f *prom.Figures, places int) *prom.Collector {
	return prom.New(prom.Options{
		Source: func() prom.Figures { return *f }, MaxVNIs: func() int { return places }, Version: "1.2.3",
	})
}

// text returns what a scrape of c alone answers.
func text(t *testing.T, c prometheus.Collector) string {
	t.Helper()
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(c)
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, f := range families {
		if _, err := expfmt.MetricFamilyToText(&b, f); err != nil {
			t.Fatal(err)
		}
	}
	return b.String()
}

// lines returns those lines of a text that begin with any of prefixes.
func lines(text string, prefixes ...string) []string {
	var out []string
	for l := range strings.Lines(text) {
		if slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(l, p) }) {
			out = append(out, strings.TrimSpace(l))
		}
	}
	return out
}

// Dashboards and alerts of operators go by these names for ever.
func TestMetrics(t *testing.T) {
	f := full()
	got := strings.Join(slices.DeleteFunc(strings.SplitAfter(text(t, collector(&f, 10)), "\n"), func(l string) bool {
		return strings.HasPrefix(l, "vxsnd_build_info{") // has the version of Go
	}), "")
	const file = "testdata/metrics.txt"
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("metrics (-want +got):\n%s", diff)
	}
}

// Names, units and help texts are as Prometheus wants them.
func TestLint(t *testing.T) {
	f := full()
	problems, err := testutil.CollectAndLint(collector(&f, 10))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// A node that has just started has metrics too.
func TestNothingCounted(t *testing.T) {
	got := text(t, collector(&prom.Figures{}, 0))
	for _, want := range []string{
		"vxsnd_ready 0", `vxsnd_engine_info{engine="none",reason=""} 1`, "vxsnd_flood_latency_seconds_count 0",
		`vxsnd_dropped_packets_total{reason="kernel"} 0`, `vxsnd_dropped_copies_total{reason="blocked"} 0`,
	} {
		if !slices.Contains(lines(got, "vxsnd_"), want) {
			t.Errorf("got no %q", want)
		}
	}
	if got := lines(got, "vxsnd_vni_", "vxsnd_peer_", "vxsnd_anycast_", "vxsnd_table_max"); len(got) > 0 {
		t.Errorf("got %q, want none of these", got)
	}
}

// The answer has the metrics of the process as well, and is well-formed.
func TestHandler(t *testing.T) {
	f := full()
	s := httptest.NewServer(prom.Handler(collector(&f, 10)))
	defer s.Close()
	got := scrape(t, s.URL)
	for _, want := range []string{"vxsnd_received_packets_total ", "go_goroutines ", "process_open_fds ", `vxsnd_build_info{goversion="go`} {
		if len(lines(got, want)) != 1 {
			t.Errorf("got %q, want one line that begins with %q", lines(got, want), want)
		}
	}
}

func scrape(t *testing.T, url string) string {
	t.Helper()
	r, err := http.Get(url)
	if err != nil {
		t.Error(err)
		return ""
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != http.StatusOK {
		t.Errorf("got status %d and %v, want %d: %s", r.StatusCode, err, http.StatusOK, b)
	}
	return string(b)
}

// What cannot be shown costs no more than itself, and is logged once.
func TestBadLabelIsLeftOut(t *testing.T) {
	f := full()
	f.Peers = append(f.Peers, prom.Peer{Name: "bad\xff"}, f.Peers[0])
	log, hook := logtest.NewNullLogger()
	c := prom.New(prom.Options{Source: func() prom.Figures { return f }, MaxVNIs: func() int { return 10 }, Log: log})
	s := httptest.NewServer(prom.Handler(c))
	defer s.Close()
	for range 2 {
		if got := lines(scrape(t, s.URL), "vxsnd_peer_up{"); len(got) != 2 {
			t.Errorf("got %q, want two peers", got)
		}
	}
	if es := hook.AllEntries(); len(es) != 1 || es[0].Level != logrus.WarnLevel {
		t.Errorf("got log %v, want one warning", es)
	}
}

// Scrapes at the same time see the same series, and counters that go up.
func TestConcurrentScrapes(t *testing.T) {
	var mu sync.Mutex
	var packets uint64
	source := func() prom.Figures {
		mu.Lock()
		defer mu.Unlock()
		packets++
		f := full()
		for i := range 8 {
			f.VNIs = append(f.VNIs, prom.VNI{VNI: vxlan.VNI(100 + i), VNICount: metrics.VNICount{Packets: packets * uint64(i)}})
		}
		return f
	}
	s := httptest.NewServer(prom.Handler(prom.New(prom.Options{Source: source, MaxVNIs: func() int { return 4 }})))
	defer s.Close()
	names := make([]string, 4)
	var wg sync.WaitGroup
	for i := range names {
		wg.Go(func() {
			for range 25 {
				var now []string
				for _, l := range lines(scrape(t, s.URL), "vxsnd_vni_received_packets_total") {
					now = append(now, strings.Fields(l)[0])
				}
				names[i] = strings.Join(now, " ")
			}
		})
	}
	wg.Wait()
	for _, n := range names {
		if n != names[0] || strings.Count(n, "vni=") != 5 {
			t.Errorf("got series %q and %q, want four VNIs and the others", names[0], n)
		}
	}
}

// BenchmarkScrape is a scrape with the default number of VNIs.
func BenchmarkScrape(b *testing.B) {
	f := full()
	f.VNIs = nil
	for i := range 1000 {
		f.VNIs = append(f.VNIs, prom.VNI{VNI: vxlan.VNI(10000 + i), Members: 8, VNICount: metrics.VNICount{
			Packets: 1e9 + uint64(i), Bytes: 64e9, Copies: 8e9 + uint64(i), CopyBytes: 512e9,
		}})
	}
	h := prom.Handler(collector(&f, 1000))
	for _, encoding := range []string{"identity", "gzip"} {
		b.Run(encoding, func(b *testing.B) {
			r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
			r.Header.Set("Accept-Encoding", encoding)
			b.ReportAllocs()
			for b.Loop() {
				w := httptest.NewRecorder()
				h.ServeHTTP(w, r)
				b.ReportMetric(float64(w.Body.Len()), "body-bytes")
			}
		})
	}
}
