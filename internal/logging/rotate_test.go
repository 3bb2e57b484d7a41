// SPDX-License-Identifier: Apache-2.0

package logging_test

import (
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"vxsnd/internal/logging"
)

// unpack returns what a compressed file has.
func unpack(t *testing.T, name string) string {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	text, err := io.ReadAll(z)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return string(text)
}

// everything returns all lines in a log file and those before it, the oldest
// first.
func everything(t *testing.T, name string) string {
	t.Helper()
	older := map[int]string{}
	for _, n := range names(t, filepath.Dir(name)) {
		m := regexp.MustCompile(`\.log\.(\d+)(\.gz)?$`).FindStringSubmatch(n)
		if m == nil {
			continue
		}
		number, _ := strconv.Atoi(m[1])
		if m[2] == "" {
			older[number] += read(t, filepath.Join(filepath.Dir(name), n))
		} else {
			older[number] += unpack(t, filepath.Join(filepath.Dir(name), n))
		}
	}
	var all strings.Builder
	for number := len(older); number > 0; number-- {
		all.WriteString(older[number])
	}
	return all.String() + read(t, name)
}

// packed waits until nothing is left to compress.
func packed(t *testing.T, name string) {
	t.Helper()
	until(t, "a compressed file", func() bool { return exists(name+".1.gz") && !exists(name+".1") })
}

func TestGenerations(t *testing.T) {
	const perFile, backups, files = 9, 3, 6
	name := logFile(t)
	log := open(t, logging.Options{Kind: logging.File, Path: name})
	log.Info(numbered(0))
	closeLog(t, log)
	size := len(read(t, name))
	log = open(t, logging.Options{Kind: logging.File, Path: name, MaxSize: int64(perFile * size), Backups: backups})
	for i := 1; i < perFile*files; i++ {
		log.Info(numbered(i))
		until(t, "the line in the file", func() bool { return strings.Contains(read(t, name), numbered(i)) })
		if i >= perFile {
			packed(t, name)
		}
	}
	closeLog(t, log)
	want := []string{"vxsnd.log", "vxsnd.log.1.gz", "vxsnd.log.2.gz", "vxsnd.log.3.gz"}
	if got := names(t, filepath.Dir(name)); !slices.Equal(got, want) {
		t.Fatalf("got files %v, want %v", got, want)
	}
	text := read(t, name)
	for file := files - 1; file >= files-1-backups; file-- {
		for i := range perFile {
			if n := numbered(file*perFile + i); !strings.Contains(text, n) {
				t.Errorf("file %d: got no %s in\n%s", file, n, text)
			}
		}
		if got := strings.Count(text, "\n"); got != perFile {
			t.Errorf("file %d: got %d lines, want %d", file, got, perFile)
		}
		if older := files - file; older <= backups {
			text = unpack(t, name+"."+strconv.Itoa(older)+".gz")
		}
	}
	for _, n := range want {
		fi, err := os.Stat(filepath.Join(filepath.Dir(name), n))
		if err != nil {
			t.Fatal(err)
		}
		if got := fi.Mode().Perm(); got&^0o640 != 0 {
			t.Errorf("%s: got mode %o, want no more than 640", n, got)
		}
	}
}

// What is logged at once fits the queue, so that each line must arrive.
func TestRotationLosesNothing(t *testing.T) {
	const loggers, lines, runs = 8, 120, 5
	name := logFile(t)
	for run := range runs {
		log := open(t, logging.Options{Kind: logging.File, Path: name, MaxSize: 4000, Backups: 10_000})
		var wg sync.WaitGroup
		for l := range loggers {
			wg.Go(func() {
				for i := range lines {
					log.Info(numbered((run*loggers+l)*lines + i))
				}
			})
		}
		wg.Wait()
		closeLog(t, log)
		if got := log.Lost(); got != 0 {
			t.Errorf("got %d lines lost, want 0", got)
		}
	}
	all := everything(t, name)
	once(t, all, runs*loggers*lines)
	if got := strings.Count(all, "\n"); got != runs*loggers*lines {
		t.Errorf("got %d lines, want %d", got, runs*loggers*lines)
	}
	last := map[int]int{}
	for _, m := range regexp.MustCompile(`line-(\d+)`).FindAllStringSubmatch(all, -1) {
		n, _ := strconv.Atoi(m[1])
		if prev, ok := last[n/lines]; ok && prev != n-1 {
			t.Fatalf("got %s after %s, want the order of logging", numbered(n), numbered(prev))
		}
		last[n/lines] = n
	}
	if !exists(name+".1") && !exists(name+".1.gz") {
		t.Errorf("got files %v, want older ones", names(t, filepath.Dir(name)))
	}
}

func TestStartCleansUpAfterACrash(t *testing.T) {
	for _, half := range []bool{false, true} {
		name := logFile(t)
		write(t, name+".1", "left behind\n")
		write(t, name+".1.gz.tmp", "no end of it")
		if half {
			write(t, name+".1.gz", "of another time, or broken")
		}
		open(t, logging.Options{Kind: logging.File, Path: name, MaxSize: 1000, Backups: 3})
		packed(t, name)
		if got := unpack(t, name+".1.gz"); got != "left behind\n" {
			t.Errorf("got %q, want what was left behind", got)
		}
		if want := []string{"vxsnd.log", "vxsnd.log.1.gz"}; !slices.Equal(names(t, filepath.Dir(name)), want) {
			t.Errorf("got files %v, want %v", names(t, filepath.Dir(name)), want)
		}
	}
}

func TestOlderFilesMoveUp(t *testing.T) {
	tests := []struct {
		name          string
		backups       int
		before, after []string // names less that of the log file
	}{
		{"none", 3, nil, []string{"", ".1.gz"}},
		{"some", 3, []string{".1.gz", ".2.gz"}, []string{"", ".1.gz", ".2.gz", ".3.gz"}},
		{"full", 3, []string{".1.gz", ".2.gz", ".3.gz"}, []string{"", ".1.gz", ".2.gz", ".3.gz"}},
		{"fewer are kept now", 2, []string{".1.gz", ".2.gz", ".3.gz", ".4.gz", ".12.gz"}, []string{"", ".1.gz", ".2.gz"}},
		{"one is missing", 3, []string{".1.gz", ".3.gz"}, []string{"", ".1.gz", ".2.gz", ".3.gz"}},
		{"not compressed", 4, []string{".2", ".1.gz", ".3.gz"}, []string{"", ".1.gz", ".2.gz", ".3", ".4.gz"}},
		{"of others", 1, []string{".20260131", ".01.gz", ".old", ".1.gz.sig", "-1.gz"},
			[]string{"", "-1.gz", ".01.gz", ".1.gz", ".1.gz.sig", ".20260131", ".old"}},
		{"none are kept now", 0, []string{".1.gz", ".2"}, []string{""}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			name := logFile(t)
			for _, suffix := range tt.before {
				write(t, name+suffix, suffix)
			}
			write(t, name, strings.Repeat("x", 1000)+"\n")
			log := open(t, logging.Options{Kind: logging.File, Path: name, MaxSize: 1000, Backups: tt.backups})
			log.Info("line")
			until(t, "a new file", func() bool { text := read(t, name); return strings.HasSuffix(text, "msg=line\n") && len(text) < 1000 })
			if tt.backups > 0 {
				packed(t, name)
			}
			closeLog(t, log)
			for i, s := range tt.after {
				tt.after[i] = "vxsnd.log" + s
			}
			if got := names(t, filepath.Dir(name)); !slices.Equal(got, tt.after) {
				t.Errorf("got files %v, want %v", got, tt.after)
			}
			if exists(name+".2.gz") && exists(name+".1.gz") && tt.before[0] == ".1.gz" && read(t, name+".2.gz") != ".1.gz" {
				t.Errorf("got %q in the second file, want what was in the first", read(t, name+".2.gz"))
			}
		})
	}
}

func TestLogGoesOnWhereItCannotRotate(t *testing.T) {
	name := logFile(t)
	log := open(t, logging.Options{Kind: logging.File, Path: name, MaxSize: 500, Backups: 1})
	if err := log.Rotatable(); err != nil { // and past looking for what was left behind
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(name+".1", "full"), 0o700); err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		log.Info(numbered(i))
	}
	until(t, "the last line", func() bool { return strings.Contains(read(t, name), numbered(99)) })
	once(t, read(t, name), 100)
	want := regexp.MustCompile(`level=warning msg="log file not rotated" count=1 error=".*vxsnd.log.1`)
	if got := want.FindAllString(read(t, name), -1); len(got) != 1 {
		t.Errorf("got warnings %q, want one", got)
	}
	if err := os.RemoveAll(name + ".1"); err != nil {
		t.Fatal(err)
	}
	if err := log.Reopen(); err != nil {
		t.Fatal(err)
	}
	log.Info("line")
	packed(t, name)
	once(t, unpack(t, name+".1.gz"), 100)
}

func TestLineLargerThanTheFileIsWritten(t *testing.T) {
	name := logFile(t)
	log := open(t, logging.Options{Kind: logging.File, Path: name, MaxSize: 10, Backups: 2})
	log.Info(numbered(0))
	closeLog(t, log)
	once(t, read(t, name), 1)
}

func TestFileThatOthersMovedIsLeftAlone(t *testing.T) {
	for _, replaced := range []bool{false, true} {
		name := logFile(t)
		log := open(t, logging.Options{Kind: logging.File, Path: name, MaxSize: 200, Backups: 3})
		if err := os.Rename(name, name+".moved"); err != nil {
			t.Fatal(err)
		}
		want := []string{"vxsnd.log.moved"}
		if replaced {
			write(t, name, "of others\n")
			want = []string{"vxsnd.log", "vxsnd.log.moved"}
		}
		for i := range 20 {
			log.Info(numbered(i))
		}
		until(t, "the last line", func() bool { return strings.Contains(read(t, name+".moved"), numbered(19)) })
		once(t, read(t, name+".moved"), 20)
		if got := names(t, filepath.Dir(name)); !slices.Equal(got, want) {
			t.Errorf("got files %v, want %v", got, want)
		}
		if err := log.Reopen(); err != nil {
			t.Fatal(err)
		}
		log.Info("line")
		closeLog(t, log)
		if got := read(t, name); strings.Count(got, "msg=line\n") != 1 {
			t.Errorf("got %q, want one line", got)
		}
	}
}

func TestLinkIsFollowed(t *testing.T) {
	name := logFile(t)
	dir := t.TempDir()
	if err := os.Symlink(filepath.Join(dir, "real.log"), name); err != nil {
		t.Fatal(err)
	}
	write(t, name, strings.Repeat("x", 1000)+"\n")
	log := open(t, logging.Options{Kind: logging.File, Path: name, MaxSize: 1000, Backups: 3})
	log.Info("line")
	packed(t, filepath.Join(dir, "real.log"))
	closeLog(t, log)
	if got := read(t, filepath.Join(dir, "real.log")); !strings.HasSuffix(got, "msg=line\n") || len(got) > 1000 {
		t.Errorf("got %d bytes, want one line in a new file", len(got))
	}
	if err := log.Chown(os.Getuid(), os.Getgid()); err == nil {
		t.Error("chown: got no error, want one for a link")
	}
}

func TestRotationGoesOnWhereNothingCanBeCompressed(t *testing.T) {
	name := logFile(t)
	log := open(t, logging.Options{Kind: logging.File, Path: name, MaxSize: 200, Backups: 10_000})
	if err := log.Rotatable(); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(name+".1.gz.tmp", "full"), 0o700); err != nil {
		t.Fatal(err)
	}
	n := 0
	until(t, "a third file", func() bool {
		log.Info(numbered(n))
		n++
		return exists(name + ".2")
	})
	closeLog(t, log)
	once(t, everything(t, name), n)
	if got := strings.Count(everything(t, name), `msg="log file not compressed" count=1 error=`); got != 1 {
		t.Errorf("got %d warnings, want 1", got)
	}
}
