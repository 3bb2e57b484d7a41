// SPDX-License-Identifier: Apache-2.0

// Package prom shows a service node's figures to Prometheus. It owns the names
// of the metrics and decides which VNIs have series of their own; what is
// counted, and where, is not its concern. The figures are plain values that
// somebody hands over for each scrape.
package prom

import (
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/sirupsen/logrus"

	"vxsnd/internal/logging"
)

// maxScrapes is how many scrapes there are at once. More than one Prometheus,
// and somebody who looks, are rare.
const maxScrapes = 4

// Options are what a Collector needs.
type Options struct {
	// Source returns the figures of now. It is called once per scrape, by one
	// goroutine at a time.
	Source func() Figures
	// MaxVNIs returns how many VNIs have series of their own at most. All others
	// are summed under vni="other". With 0 there are no series per VNI.
	MaxVNIs func() int
	// Version is the program's.
	Version string
	// Log takes errors of scrapes; nil discards them.
	Log logrus.FieldLogger
}

// A Collector makes metrics of the figures of now at each scrape. It is safe
// for concurrent use.
type Collector struct {
	o        Options
	families []family
	descs    []*prometheus.Desc // of families
	build    prometheus.Metric
	latency  *prometheus.Desc
	perVNI   [len(vniFamilies)]*prometheus.Desc
	repeats  logging.Limiter

	mu   sync.Mutex // guards vnis, and has scrapes take figures in turn
	vnis selection
}

// New returns a collector.
func New(o Options) *Collector {
	o.Log = logging.OrDiscard(o.Log)
	c := &Collector{
		o:        o,
		families: families(),
		build: prometheus.MustNewConstMetric(
			prometheus.NewDesc(namespace+"build_info", "Version of vxsnd, and of Go that it was built with.", []string{"version", "goversion"}, nil),
			prometheus.GaugeValue, 1, o.Version, runtime.Version()),
		latency: prometheus.NewDesc(namespace+"flood_latency_seconds",
			"Time from the receipt of a packet by the kernel to its last copy being handed over, of a sample of the packets that raw floods.", nil, nil),
	}
	for _, f := range c.families {
		c.descs = append(c.descs, prometheus.NewDesc(namespace+f.name, f.help, f.labels, nil))
	}
	for i, f := range vniFamilies {
		c.perVNI[i] = prometheus.NewDesc(namespace+f.name, f.help, []string{vniLabel}, nil)
	}
	return c
}

// Describe sends all that Collect can send.
func (c *Collector) Describe(ch chan<- *prometheus.Desc) {
	ch <- c.build.Desc()
	ch <- c.latency
	for _, d := range slices.Concat(c.descs, c.perVNI[:]) {
		ch <- d
	}
}

// Collect sends the metrics of now.
func (c *Collector) Collect(ch chan<- prometheus.Metric) {
	s := c.take()
	ch <- c.build
	ch <- c.histogram(s)
	for i, f := range c.families {
		desc := c.descs[i]
		f.values(s, func(v float64, labels ...string) {
			m, err := prometheus.NewConstMetric(desc, f.kind, v, labels...)
			if err != nil {
				m = prometheus.NewInvalidMetric(desc, err)
			}
			ch <- m
		})
	}
	c.collectVNIs(s.series, ch)
}

// A scrape is what is shown at one scrape.
type scrape struct {
	Figures
	series []series
}

// take takes the figures of now. The selection has to see them in their order.
func (c *Collector) take() *scrape {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := &scrape{Figures: c.o.Source()}
	s.series = c.vnis.choose(&s.Figures, c.o.MaxVNIs())
	return s
}

// histogram returns the latency as Prometheus wants it: each bucket counts what
// is in the ones before, too.
func (c *Collector) histogram(s *scrape) prometheus.Metric {
	l := &s.Latency
	buckets := make(map[float64]uint64, len(l.Bounds))
	var n uint64
	for i, b := range l.Bounds {
		n += l.Counts[i]
		buckets[b.Seconds()] = n
	}
	m, err := prometheus.NewConstHistogram(c.latency, l.Count, l.Sum.Seconds(), buckets)
	if err != nil {
		return prometheus.NewInvalidMetric(c.latency, err)
	}
	return m
}

// Println logs what is wrong with a scrape, as promhttp.Logger has it.
func (c *Collector) Println(v ...any) {
	c.repeats.Do("scrape", func(count int) {
		c.o.Log.WithField("count", count).WithError(fmt.Errorf("%s", fmt.Sprint(v...))).Warn("metrics incomplete")
	})
}

// Handler answers scrapes with the metrics of c, of Go and of the process.
func Handler(c *Collector) http.Handler {
	r := prometheus.NewRegistry()
	r.MustRegister(c, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return promhttp.HandlerFor(r, promhttp.HandlerOpts{
		ErrorLog:            c,
		ErrorHandling:       promhttp.ContinueOnError,
		MaxRequestsInFlight: maxScrapes,
	})
}
