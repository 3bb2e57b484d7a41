// SPDX-License-Identifier: Apache-2.0

package node

import (
	"net"
	"net/netip"
	"testing"

	"vxsnd/internal/config"
	"vxsnd/internal/control"
	"vxsnd/internal/fdb"
)

// send sends a datagram from where the calling thread is.
func send(to string) error {
	c, err := net.Dial("udp4", to)
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.Write([]byte("x"))
	return err
}

func TestExplainWithoutFlooding(t *testing.T) {
	got, err := ask[control.Explanation](t, newNode(t), control.CommandExplain, object{"vni": 5, "source": "192.0.2.1"})
	check(t, err)
	if len(got) != 1 || got[0].Flooded || got[0].Rule != ruleNotFlooding {
		t.Errorf("got %+v, want that nothing is flooded", got)
	}
}

// What ends a packet before anybody looks for members.
func TestExplainedSources(t *testing.T) {
	n := newNode(t, func(c *config.Config) { c.SvcnodeIP = host(100) })
	n.flooding.set(newTapped())
	n.guard.setOwn([]netip.Addr{host(50)})
	for source, want := range map[string]string{
		"2001:db8::1": "family", "127.0.0.1": "own", "239.0.0.1": "source", "192.0.2.50": "own", "192.0.2.100": "service_node",
		"::ffff:192.0.2.50": "own",
	} {
		got, err := ask[control.Explanation](t, n, control.CommandExplain, object{"vni": 5, "source": source})
		check(t, err)
		if len(got) != 1 || got[0].Flooded || got[0].Rule != want || got[0].Text == "" {
			t.Errorf("%s: got %+v, want rule %s", source, got, want)
		}
	}
}

func TestWordsAboutLearning(t *testing.T) {
	tests := []struct {
		name     string
		learning config.Learning
		limit    int
		src      []fdb.Source
		learned  bool
		want     string
	}{
		{"off", config.LearnOff, 10, nil, false, "learning = off"},
		{"unknown VNI", config.LearnKnown, 10, nil, false, "learning = known, and nobody has registered in VNI 5"},
		{"learned already", config.LearnAny, 10, []fdb.Source{fdb.Data}, false, "192.0.2.1 is a member already, by data"},
		{"member already", config.LearnAny, 10, []fdb.Source{fdb.Operator, fdb.Configuration}, false, "192.0.2.1 is a member already, by configuration, operator"},
		{"no room", config.LearnAny, 0, nil, false, "no room to learn 192.0.2.1: raise max_learned"},
		{"new", config.LearnAny, 10, nil, true, "192.0.2.1 becomes a member by this packet"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n := newNode(t, func(c *config.Config) { c.Learning, c.Limits.MaxLearned = tt.learning, max(1, tt.limit) })
			if tt.limit == 0 {
				put(t, n, fdb.Data, 9, host(1))
			}
			for _, src := range tt.src {
				put(t, n, src, 5, host(1))
			}
			c := n.config()
			p := packet{vni: 5, source: host(1)}
			l := fdb.Lookup{VNI: 5, Source: host(1)}
			why, refused := n.table.Peek(clock(), &l)
			got := newExplainer(n).learnText(&c, &p, &l, n.table.Entries(clock(), 5, nil), why, refused)
			if got != tt.want || l.Learn != tt.learned {
				t.Errorf("got %v: %s, want %v: %s", l.Learn, got, tt.learned, tt.want)
			}
		})
	}
}
