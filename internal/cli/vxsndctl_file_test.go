// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"vxsnd/internal/control"
)

func TestFilesOfMembersAreRead(t *testing.T) {
	member := func(vni uint32, address string) control.FDBChange {
		return control.FDBChange{VNI: vni, Address: netip.MustParseAddr(address)}
	}
	for _, tt := range []struct {
		name, text string
		want       []control.FDBChange
		lines      []int
		doubles    int
	}{
		{"nothing", "", nil, nil, 0},
		{"comments", "# all\n\n  \t# of it\n", nil, nil, 0},
		{"members", "100 10.2.1.1\n\t 200\t2001:db8::1 # node 2\r\n300 ::ffff:10.2.1.3", []control.FDBChange{
			member(100, "10.2.1.1"), member(200, "2001:db8::1"), member(300, "10.2.1.3"),
		}, []int{1, 2, 3}, 0},
		{"twice", "100 10.2.1.1\n100 10.2.1.2\n100 10.2.1.1\n0100 10.2.1.2\n", []control.FDBChange{
			member(100, "10.2.1.1"), member(100, "10.2.1.2"),
		}, []int{1, 2}, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f, err := readMembers("f", strings.NewReader(tt.text))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, f.entries, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			if diff := cmp.Diff(tt.lines, f.lines); diff != "" || f.doubles != tt.doubles {
				t.Errorf("got %d doubles, want %d; lines (-want +got)\n%s", f.doubles, tt.doubles, diff)
			}
		})
	}
}

func TestAllThatIsWrongWithAFileIsTold(t *testing.T) {
	many := strings.Repeat("x\n", maxFileProblems+7)
	for _, tt := range []struct {
		name, text string
		want       []string
	}{
		{"each kind", "100 10.2.1.1\n16777216 10.2.1.1\n100 10.2.1\n100\n100 10.2.1.1 x\n100 fe80::1%eth0\n100 10.2.1.2\n", []string{
			`f:2: "16777216" is not a VNI (0 to 16777215)`,
			`f:3: "10.2.1" is not an address`,
			`f:4: "100": the address is missing: a line is VNI ADDRESS`,
			`f:5: surplus text "x": a line is VNI ADDRESS`,
			`f:6: "fe80::1%eth0" is not an address`,
		}},
		{"long word", "100 " + strings.Repeat("1", 100), []string{`f:1: "` + strings.Repeat("1", 32) + `"… is too long: a line is VNI ADDRESS`}},
		{"no text", "100 10.2.1.1\n" + strings.Repeat("\x00", maxMemberLine+1), []string{
			"f:2: more than 4096 bytes in a line: this is no file of members",
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := readMembers("f", strings.NewReader(tt.text))
			if diff := cmp.Diff(strings.Join(tt.want, "\n"), fmt.Sprint(err)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
	_, err := readMembers("f", strings.NewReader(many))
	lines := strings.Split(fmt.Sprint(err), "\n")
	if last := lines[len(lines)-1]; len(lines) != maxFileProblems+1 || last != "f: 7 more lines are wrong" {
		t.Errorf("got %d lines and %q, want %d and that 7 are not told", len(lines), last, maxFileProblems+1)
	}
}

// uploading serves fdb_file with answer, which gets what was uploaded.
func uploading(t *testing.T, answer func(pieces int, all []control.FDBChange) (*control.FDBReplaced, error)) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "s")
	stop, err := serveControl(path, []control.Command{{Name: control.CommandFDBFile, Changes: true, Upload: true,
		Run: func(_ context.Context, call *control.Call) error {
			var all []control.FDBChange
			for pieces := 0; ; pieces++ {
				data, err := call.Receive()
				if errors.Is(err, io.EOF) {
					r, err := answer(pieces, all)
					if err != nil {
						return err
					}
					return call.Send(r)
				}
				var part []control.FDBChange
				if err == nil {
					err = json.Unmarshal(data, &part)
				}
				if err != nil {
					return err
				}
				all = append(all, part...)
			}
		}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return path
}

// manyMembers is a file of n members, with a comment before each.
func manyMembers(t *testing.T, n int) (name string) {
	t.Helper()
	var b bytes.Buffer
	for i := range n {
		fmt.Fprintf(&b, "# member %d\n%d 10.%d.%d.%d\n", i, 16000000+i/1000, i>>16&0xff, i>>8&0xff, i&0xff)
	}
	name = filepath.Join(t.TempDir(), "members")
	if err := os.WriteFile(name, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestAFileIsUploadedInPieces(t *testing.T) {
	const n = 10*uploadPart + 1
	path := uploading(t, func(pieces int, all []control.FDBChange) (*control.FDBReplaced, error) {
		if pieces != 11 || len(all) != n || all[n-1].VNI != 16000005 {
			return nil, fmt.Errorf("got %d members in %d pieces", len(all), pieces)
		}
		return &control.FDBReplaced{Added: 12, Removed: 3, Kept: 100, Warnings: []string{"it is cold"}}, nil
	})
	var out, problems bytes.Buffer
	if err := vxsndctl.run([]string{"-u", path, "fdb", "file", manyMembers(t, n)}, &out, &problems); err != nil {
		t.Fatal(err)
	}
	if got, want := out.String(), "12 added, 3 removed, 100 kept\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := problems.String(), "vxsndctl: warning: it is cold\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestARefusedMemberIsToldByItsLine(t *testing.T) {
	path := uploading(t, func(int, []control.FDBChange) (*control.FDBReplaced, error) {
		item := uploadPart + 7
		return nil, &control.Error{Code: control.CodeBadArgument, Text: "no such thing", Hint: "take another one", Item: &item}
	})
	name := manyMembers(t, 2*uploadPart)
	var out, problems bytes.Buffer
	err := vxsndctl.run([]string{"-u", path, "fdb", "file", name}, &out, &problems)
	if status := report(&problems, "vxsndctl", err); status != exitFailed {
		t.Errorf("got status %d, want %d", status, exitFailed)
	}
	want := fmt.Sprintf("vxsndctl: %s:%d: no such thing\nvxsndctl: hint: take another one\nvxsndctl: nothing was changed\n", name, 2*(uploadPart+7)+2)
	if got := problems.String(); got != want || out.Len() > 0 {
		t.Errorf("got %q and %q, want %q", out.String(), got, want)
	}
}

// A large file that is not at hand at once is not read in silence.
func TestReadingALargeFileOfMembersIsTold(t *testing.T) {
	path := filepath.Join(t.TempDir(), "members")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	c := startConsole(t, "vxsndctl", "-u", topNode(t), "fdb", "file", path)
	if _, err := f.WriteString(strings.Repeat(strings.Repeat("#", 127)+"\n", 2*shownBytes/128+64)); err != nil {
		t.Fatal(err)
	}
	c.await("how far it is", func(text string) bool { return strings.Contains(text, clearLine+"reading members: 2 MiB") })
}
