package cli

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/term"

	"github.com/ringback/ringback/internal/console"
)

// stateVariable is the environment variable with the name of the file in which a watched run finds the state of the one
// before, and leaves its own. It is set for the runs that --watch starts.
const stateVariable = "RINGBACK_DEV_STATE"

// quiet is how long no file may change before the program is built again. Editors and git change several in a row.
const quiet = 200 * time.Millisecond

// watched are the endings of the files that are part of the program. Those with the settings are apart, as a program
// reads them when it starts.
var watched = []string{".go", ".yaml", ".yml", "go.mod", "go.sum", environmentFile}

// watcher builds the program of a project and runs it. After each change, it does so again.
type watcher struct {
	s         *streams
	main      string   // the import path of the program
	root      string   // the folder of its module
	arguments []string // of the program
	work      string   // a folder for the programs and the state
	terminal  bool     // the terminal sends its interrupts to the program, too

	built int // how often
	now   build
	next  *build    // replaces now when the running program has ended; nil means none
	child *exec.Cmd // nil while none is running
	ended chan error
}

// build is a built program.
type build struct {
	file        string
	hash        [sha256.Size]byte
	environment []byte // the content of .env
}

// watch runs the command line of this program without --watch, and starts it again after each change of the project.
func watch(s *streams, arguments []string) error {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Path == "" || info.Path == "command-line-arguments" {
		return errors.New("--watch cannot find the program's package; run it as a package, as in go run ./cmd/ringback")
	}
	root, err := exec.Command("go", "env", "GOMOD").Output()
	module := strings.TrimSpace(string(root))
	if err != nil || filepath.Base(module) != "go.mod" {
		return errors.New("--watch needs the go command, and the folder of your project as the current one")
	}
	work, err := os.MkdirTemp("", "ringback-watch-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	w := &watcher{
		s: s, main: info.Path, root: filepath.Dir(module), work: work, terminal: term.IsTerminal(int(os.Stdin.Fd())),
		arguments: slices.DeleteFunc(slices.Clone(arguments), func(a string) bool { return strings.HasPrefix(a, "--watch") }),
		ended:     make(chan error, 1),
	}
	return w.run()
}

// run watches until it is interrupted.
func (w *watcher) run() error {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	files, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("cannot watch files: %w", err)
	}
	defer files.Close()
	if err := w.add(files, w.root); err != nil {
		return fmt.Errorf("cannot watch %s: %w", w.root, err)
	}
	w.rebuild()
	var due <-chan time.Time
	interrupted := false
	for {
		select {
		case e := <-files.Events:
			if e.Has(fsnotify.Create) {
				_ = w.add(files, e.Name) // a folder; a file is an error
			}
			if !e.Has(fsnotify.Chmod) && isWatched(e.Name) {
				due = time.After(quiet)
			}
		case err := <-files.Errors:
			w.say("ringback: cannot watch a file: %v", err)
		case <-due:
			if due = nil; !interrupted {
				w.rebuild()
			}
		case received := <-signals:
			interrupted = true
			switch {
			case w.child == nil:
				return nil
			case !w.terminal || received == syscall.SIGTERM: // otherwise the program has it already
				_ = w.child.Process.Signal(os.Interrupt)
			}
		case err := <-w.ended:
			w.child = nil
			switch {
			case interrupted && err != nil:
				return errors.New("the run has failed, see above")
			case interrupted:
				return nil
			case w.next != nil:
				w.replace()
			default:
				w.say("\nThe run has ended. It starts again after the next change.")
			}
		}
	}
}

// add watches a folder, and those in it.
func (w *watcher) add(files *fsnotify.Watcher, folder string) error {
	return filepath.WalkDir(folder, func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case !entry.IsDir():
			return nil
		case name != w.root && ignored(entry.Name()):
			return fs.SkipDir
		}
		return files.Add(name)
	})
}

// ignored reports whether a folder contains no code of the project.
func ignored(folder string) bool {
	return strings.HasPrefix(folder, ".") || strings.HasPrefix(folder, "_") ||
		slices.Contains([]string{"node_modules", "cdk.out", "build"}, folder)
}

func isWatched(file string) bool {
	name := filepath.Base(file)
	return !strings.HasPrefix(name, ".#") && slices.ContainsFunc(watched, func(ending string) bool {
		return strings.HasSuffix(name, ending)
	})
}

// say shows a line. It overwrites the status line of the running program, which shows its own again.
func (w *watcher) say(format string, a ...any) {
	if console.On(w.s.Err).Live {
		format = "\r\x1b[J" + format
	}
	fmt.Fprintf(w.s.Err, format+"\n", a...)
}

// rebuild builds the program. If it has changed and its tools are valid, it replaces the running one.
func (w *watcher) rebuild() {
	next, problem := w.build()
	if problem != "" {
		text := printable(strings.TrimSpace(problem))
		if w.child != nil {
			text += "\n\nThe run goes on with the code before."
		}
		w.say("\n%s", text)
		return
	}
	if w.child != nil && w.next == nil && next.hash == w.now.hash && bytes.Equal(next.environment, w.now.environment) {
		os.Remove(next.file)
		return
	}
	if w.next != nil {
		os.Remove(w.next.file)
	}
	waits := w.next != nil // for the running program, which was asked to end before
	w.next = &next
	switch {
	case w.child == nil:
		w.replace()
	case !waits:
		_ = w.child.Process.Signal(syscall.SIGTERM) // it leaves its state
	}
}

// replace starts the next program.
func (w *watcher) replace() {
	if w.now.file != "" {
		os.Remove(w.now.file)
	}
	w.now, w.next = *w.next, nil
	w.start()
}

// build builds the program and checks its tools. It returns a description of what is wrong.
func (w *watcher) build() (b build, problem string) {
	w.built++
	b.file = filepath.Join(w.work, fmt.Sprintf("ringback-%d", w.built))
	// The revision would need git, and differs after a commit that changes no code.
	compile := exec.Command("go", "build", "-buildvcs=false", "-o", b.file, w.main)
	if text, err := compile.CombinedOutput(); err != nil {
		return b, string(text) + "\n" + "The code cannot be compiled."
	}
	var text bytes.Buffer
	check := exec.Command(b.file, "tools")
	check.Env = withoutFile(os.Environ())
	check.Stdout, check.Stderr = io.Discard, &text
	if err := check.Run(); err != nil {
		return b, text.String()
	}
	content, err := os.ReadFile(b.file)
	if err != nil {
		return b, err.Error()
	}
	b.hash = sha256.Sum256(content)
	b.environment, _ = os.ReadFile(environmentFile) // it need not exist
	return b, ""
}

// start starts the built program.
func (w *watcher) start() {
	child := exec.Command(w.now.file, w.arguments...)
	child.Env = append(withoutFile(os.Environ()), stateVariable+"="+filepath.Join(w.work, "state"))
	child.Stdin, child.Stdout, child.Stderr = os.Stdin, w.s.Out, w.s.Err
	if err := child.Start(); err != nil {
		w.say("ringback: cannot start the program: %v", err)
		return
	}
	w.child = child
	go func() { w.ended <- child.Wait() }()
}

// parentPause is how often a watched run looks whether the program that watches is still there.
const parentPause = time.Second

// beingWatched is [interrupted] for a run that --watch has started. requested is closed when the run is to hand
// over. The first context also ends when the program that watches has died.
func beingWatched() (requested <-chan struct{}, first, second context.Context, stop func()) {
	requests := make(chan struct{})
	terminated, interrupts := make(chan os.Signal, 1), make(chan os.Signal, 2)
	signal.Notify(terminated, syscall.SIGTERM)
	signal.Notify(interrupts, os.Interrupt)
	first, endFirst := context.WithCancel(context.Background())
	second, endSecond := context.WithCancel(context.Background())
	go func() {
		parent, tick := os.Getppid(), time.NewTicker(parentPause)
		defer tick.Stop()
		for n := 0; ; {
			select {
			case <-terminated:
				close(requests)
				terminated = nil
			case <-interrupts:
				if n++; n > 1 {
					endSecond()
				}
				endFirst()
			case <-tick.C:
				if os.Getppid() != parent {
					endFirst()
				}
			case <-second.Done():
				return
			}
		}
	}()
	return requests, first, second, func() {
		signal.Stop(terminated)
		signal.Stop(interrupts)
		endFirst()
		endSecond()
	}
}
