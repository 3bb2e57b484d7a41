// SPDX-License-Identifier: Apache-2.0

package prom

import (
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

const vniLabel = "vni"

// vniFamilies are the metrics of a VNI: members, and then what a sum counts, in
// its order.
var vniFamilies = [1 + len(sum{})]struct{ name, help string }{
	{"vni_members", "Members of the VNI; other: of all VNIs without series of their own."},
	{"vni_received_packets_total", "VXLAN packets of the VNI received."},
	{"vni_received_bytes_total", "UDP payload of VXLAN packets of the VNI received."},
	{"vni_copies_total", "Copies of packets of the VNI handed to the kernel."},
	{"vni_dropped_packets_total", "Packets of the VNI received and not flooded."},
	{"vni_dropped_copies_total", "Copies of packets of the VNI not sent."},
}

// A vniMetric is one value of one VNI. There are thousands of them in a scrape,
// so they share their labels.
type vniMetric struct {
	desc   *prometheus.Desc
	labels []*dto.LabelPair
	gauge  bool
	value  float64
}

// Desc returns what all VNIs have in common.
func (m *vniMetric) Desc() *prometheus.Desc { return m.desc }

// Write fills in the metric.
func (m *vniMetric) Write(out *dto.Metric) error {
	out.Label = m.labels
	if m.gauge {
		out.Gauge = &dto.Gauge{Value: &m.value}
	} else {
		out.Counter = &dto.Counter{Value: &m.value}
	}
	return nil
}

// vniLabels returns the labels of a VNI.
func vniLabels(name string) []*dto.LabelPair {
	label := vniLabel
	return []*dto.LabelPair{{Name: &label, Value: &name}}
}

// collectVNIs sends the metrics of VNIs.
func (c *Collector) collectVNIs(all []series, ch chan<- prometheus.Metric) {
	ms := make([]vniMetric, 0, len(all)*len(c.perVNI))
	for i := range all {
		s := &all[i]
		ms = append(ms, vniMetric{c.perVNI[0], s.labels, true, float64(s.members)})
		for k, n := range s.counted {
			ms = append(ms, vniMetric{c.perVNI[1+k], s.labels, false, float64(n)})
		}
	}
	for i := range ms {
		ch <- &ms[i]
	}
}
