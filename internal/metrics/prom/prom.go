// SPDX-License-Identifier: Apache-2.0

// Package prom shows a service node's figures to Prometheus. It owns the names
// of the metrics and decides which VNIs have series of their own; what is
// counted, and where, is not its concern. The figures are plain values that
// somebody hands over for each scrape.
package prom

import (
	"errors"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
)

// Options are what a Collector needs.
type Options struct {
	// Source returns the figures of now. It is called once per scrape, by several
	// goroutines at once where there are several scrapes.
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
	o Options
}

// New returns a collector.
func New(o Options) *Collector { return &Collector{o: o} }

// Describe sends nothing yet.
func (c *Collector) Describe(chan<- *prometheus.Desc) {}

// Collect sends the metrics of now.
func (c *Collector) Collect(chan<- prometheus.Metric) {}

// Handler answers scrapes.
func Handler(*Collector) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, errors.ErrUnsupported.Error(), http.StatusServiceUnavailable)
	})
}
