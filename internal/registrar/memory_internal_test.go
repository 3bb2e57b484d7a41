// SPDX-License-Identifier: Apache-2.0

package registrar

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"

	"golang.org/x/sys/unix"

	"vxsnd/internal/config"
	"vxsnd/internal/underlay"
)

func memoryConfig(t *testing.T) config.Config {
	c := testConfig("10.0.0.100")
	c.StateFile = filepath.Join(t.TempDir(), "vxrd.state")
	return c
}

// The identifier stays over a restart, whichever address is the lowest one then.
func TestIdentifierOutlivesRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := memoryConfig(t)
		nine := with(device("b", 2, ""), func(d *underlay.Device) { d.Local = addr("10.0.0.9") })
		run := func(ds ...underlay.Device) uint64 {
			h := newHarness(t, c, ds...)
			h.recall()
			h.start()
			defer h.end(ErrRestart)
			return h.identifier()
		}
		want := nodeID("machine", addr("10.0.0.9"))
		if got := run(nine); got != want {
			t.Errorf("got %#x at first, want %#x", got, want)
		}
		if got := run(device("a", 1, ""), nine); got != want {
			t.Errorf("got %#x with a lower address, want %#x as before", got, want)
		}
		c.VRF = "red"
		if got := run(); got != 0 {
			t.Errorf("got %#x in a VRF, want that of before to mean nothing", got)
		}
		c.VRF, c.NodeID = "", 4711
		if got := run(nine); got != 4711 {
			t.Errorf("got %d, want that of the configuration", got)
		}
	})
}

// What somebody else has in the place of the memory is left as it is, and the
// registrar runs without.
func TestMemoryRefuses(t *testing.T) {
	tests := []struct {
		name    string
		content string
		make    func(name string) error
		want    error
	}{
		{"a foreign file", "precious\n", nil, errStrange},
		{"a symbolic link", "", func(name string) error { return os.Symlink("elsewhere", name) }, unix.ELOOP},
		{"a directory", "", func(name string) error { return os.Mkdir(name, 0o700) }, unix.EISDIR},
		{"a garbled one", memoryMagic + "0xzz\n", nil, nil},
		{"one of another boot", memoryMagic + "0x1234 namespace 1 boot 2 vrf \"\"\n", nil, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := memoryConfig(t)
			name := c.StateFile + memorySuffix
			if tt.make == nil {
				tt.make = func(name string) error { return os.WriteFile(name, []byte(tt.content), 0o644) }
			}
			if err := tt.make(name); err != nil {
				t.Fatal(err)
			}
			m, id, err := openMemory(&c)
			if id != 0 || !errors.Is(err, tt.want) {
				t.Errorf("got %#x and %v, want nothing and %v", id, err, tt.want)
			}
			if err == nil {
				defer m.file.Close()
				if _, _, err := openMemory(&c); !errors.Is(err, unix.EWOULDBLOCK) {
					t.Errorf("opened twice: got %v, want it locked", err)
				}
			}
			if b, _ := os.ReadFile(name); string(b) != tt.content {
				t.Errorf("got content %q afterwards, want %q", b, tt.content)
			}
		})
	}
}
