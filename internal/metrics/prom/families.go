// SPDX-License-Identifier: Apache-2.0

package prom

import (
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"vxsnd/internal/metrics"
)

// namespace is what all names begin with.
const namespace = "vxsnd_"

const (
	counter = prometheus.CounterValue
	gauge   = prometheus.GaugeValue
)

// emit sends one value, with the values of its family's labels.
type emit = func(v float64, labels ...string)

// A family is one metric: its name without the namespace, and what of a scrape
// it shows.
type family struct {
	name, help string
	kind       prometheus.ValueType
	labels     []string
	values     func(s *scrape, out emit)
}

func families() []family {
	return slices.Concat(processFamilies(), floodFamilies(), kernelFamilies(), tableFamilies(), registrationFamilies(),
		peeringFamilies(), peerFamilies(), anycastFamilies())
}

// one is a family of one value.
func one(kind prometheus.ValueType, name, help string, value func(s *scrape) float64) family {
	return family{name, help, kind, nil, func(s *scrape, out emit) { out(value(s)) }}
}

// count is a counter of one value.
func count(name, help string, value func(s *scrape) uint64) family {
	return one(counter, name, help, func(s *scrape) float64 { return float64(value(s)) })
}

// level is a gauge of one number.
func level(name, help string, value func(s *scrape) int) family {
	return one(gauge, name, help, func(s *scrape) float64 { return float64(value(s)) })
}

// flag is a gauge of 1 or 0.
func flag(name, help string, value func(s *scrape) bool) family {
	return one(gauge, name, help, func(s *scrape) float64 { return truth(value(s)) })
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// counts is a counter with one label, whose values are the keys.
func counts(name, help, label string, values func(s *scrape) map[string]uint64) family {
	return family{name, help, counter, []string{label}, func(s *scrape, out emit) {
		for k, n := range values(s) {
			out(float64(n), k)
		}
	}}
}

func processFamilies() []family {
	return []family{
		{"engine_info", "What floods packets, none where nothing does, and why it is not the engine asked for.", gauge, []string{"engine", "reason"},
			func(s *scrape, out emit) {
				engine := s.Engine
				if engine == "" {
					engine = "none"
				}
				out(1, engine, s.EngineReason)
			}},
		one(gauge, "start_time_seconds", "When the service node started, in seconds since 1970.",
			func(s *scrape) float64 { return float64(s.Started.UnixMilli()) / 1000 }),
		flag("ready", "Whether the node serves: its sockets are bound, and peers' tables are there or waited for no longer.",
			func(s *scrape) bool { return s.Ready }),
		flag("alive", "Whether all flood workers and the table show that they live.", func(s *scrape) bool { return s.Alive }),
		level("failed_startup_checks", "Start-up checks that failed.", func(s *scrape) int { return s.FailedChecks }),
		count("log_lines_lost_total", "Log lines that the log destination was too slow for.", func(s *scrape) uint64 { return s.LogLinesLost }),
		level("management_connections", "Connections at the management socket.", func(s *scrape) int { return s.Clients }),
		level("captures", "Captures that run.", func(s *scrape) int { return s.Capture.Running }),
		count("captured_packets_total", "Packets that captures took.", func(s *scrape) uint64 { return s.Capture.Packets }),
		count("capture_lost_packets_total", "Packets that captures wanted and that came too fast.", func(s *scrape) uint64 { return s.Capture.Lost }),
	}
}

func floodFamilies() []family {
	return []family{
		count("received_packets_total", "VXLAN packets received, without those that the kernel dropped.", func(s *scrape) uint64 { return s.Flood.Packets }),
		count("received_bytes_total", "UDP payload of VXLAN packets received.", func(s *scrape) uint64 { return s.Flood.Bytes }),
		count("copies_total", "Copies handed to the kernel.", func(s *scrape) uint64 { return s.Flood.Copies }),
		count("copy_bytes_total", "UDP payload of copies handed to the kernel.", func(s *scrape) uint64 { return s.Flood.CopyBytes }),
		count("fragmented_copies_total", "Copies larger than the MTU of the outgoing device.", func(s *scrape) uint64 { return s.Flood.Fragmented }),
		count("learned_members_total", "Members learned from data packets.", func(s *scrape) uint64 { return s.Flood.Learned }),
		count("loops_total", "Packets, of a sample, that came back with a lower TTL.", func(s *scrape) uint64 { return s.Flood.Loops }),
		drops("dropped_packets_total", "Packets received and not flooded.", false),
		drops("dropped_copies_total", "Copies not sent, while the others of their packet were.", true),
		{"socket_queue_bytes", "Memory that packets take up which wait in the sockets of the flood workers.", gauge, []string{"queue"},
			func(s *scrape, out emit) {
				out(float64(s.ReceiveQueue), "receive")
				out(float64(s.SendQueue), "send")
			}},
	}
}

func kernelFamilies() []family {
	of := func(kind prometheus.ValueType, name, help string, value func(k *Kernel) float64) family {
		return family{name, help, kind, nil, func(s *scrape, out emit) {
			if s.Kernel != nil {
				out(value(s.Kernel))
			}
		}}
	}
	return []family{
		of(gauge, "kernel_devices", "Devices where a program in the kernel takes packets.", func(k *Kernel) float64 { return float64(k.Devices) }),
		of(gauge, "kernel_vnis", "VNIs that are flooded in the kernel.", func(k *Kernel) float64 { return float64(k.VNIs) }),
		of(gauge, "kernel_members", "Members of VNIs that are flooded in the kernel.", func(k *Kernel) float64 { return float64(k.Members) }),
		of(gauge, "kernel_member_bytes", "Memory of the records of these members.", func(k *Kernel) float64 { return float64(k.Bytes) }),
		{"raw_vnis", "VNIs with members that are flooded by raw, by why.", gauge, []string{"reason"}, func(s *scrape, out emit) {
			if s.Kernel != nil {
				for why, n := range s.Kernel.RawVNIs {
					out(float64(n), why)
				}
			}
		}},
		of(gauge, "kernel_pending", "Ways to VTEPs, changed VNIs and devices that the kernel is yet to be told of.", func(k *Kernel) float64 { return float64(k.Pending) }),
		of(counter, "kernel_packets_total", "VXLAN packets received that were handled in the kernel.", func(k *Kernel) float64 { return float64(k.Packets) }),
		of(counter, "kernel_copies_total", "Copies that left in the kernel.", func(k *Kernel) float64 { return float64(k.Copies) }),
		counts("kernel_handed_up_packets_total", "Packets that the kernel left to raw.", "reason", func(s *scrape) map[string]uint64 {
			if s.Kernel == nil {
				return nil
			}
			return s.Kernel.HandedUp
		}),
		of(counter, "kernel_mended_members_total", "Members that a comparison of the kernel with the table found wrong.", func(k *Kernel) float64 { return float64(k.Differences) }),
	}
}

// drops is a counter of drops of packets or of copies, by reason.
func drops(name, help string, perCopy bool) family {
	return family{name, help, counter, []string{"reason"}, func(s *scrape, out emit) {
		for d := metrics.DropNone + 1; d < metrics.NumDrops; d++ {
			if d.PerCopy() == perCopy {
				out(float64(s.Flood.Drops[d]), d.String())
			}
		}
	}}
}

func tableFamilies() []family {
	limit := func(name, help string, value func(t *Table) int) family {
		return family{name, help, gauge, nil, func(s *scrape, out emit) {
			if n := value(&s.Table); n > 0 {
				out(float64(n))
			}
		}}
	}
	return []family{
		level("table_vnis", "VNIs with members.", func(s *scrape) int { return s.Table.VNIs }),
		level("table_members", "Members of all VNIs.", func(s *scrape) int { return s.Table.Members }),
		{"table_entries", "Entries of the table: one member may have several.", gauge, []string{"source"}, func(s *scrape, out emit) {
			for source, n := range s.Table.Entries {
				out(float64(n), source)
			}
		}},
		level("table_tombstones", "Withdrawals that are remembered.", func(s *scrape) int { return s.Table.Tombstones }),
		limit("table_max_vnis", "Limit of VNIs with members.", func(t *Table) int { return t.MaxVNIs }),
		limit("table_max_members_per_vni", "Limit of members of one VNI.", func(t *Table) int { return t.MaxMembers }),
		limit("table_max_entries", "Limit of entries.", func(t *Table) int { return t.MaxEntries }),
		limit("table_max_learned_entries", "Limit of entries learned from data packets.", func(t *Table) int { return t.MaxLearned }),
		count("table_expired_entries_total", "Entries that nobody refreshed in time.", func(s *scrape) uint64 { return s.Table.Expired }),
		count("table_evicted_entries_total", "Entries that made room for others.", func(s *scrape) uint64 { return s.Table.Evicted }),
		count("table_withdrawn_entries_total", "Entries that were withdrawn.", func(s *scrape) uint64 { return s.Table.Withdrawn }),
		count("table_replaced_entries_total", "Entries that another address of the same identifier replaced.", func(s *scrape) uint64 { return s.Table.Replaced }),
		counts("table_refused_entries_total", "Entries that the table did not take in.", "reason", func(s *scrape) map[string]uint64 { return s.Table.Refused }),
	}
}
