// The probes of one process, attached: events come out. All that can go wrong, in words for people.
#pragma once

#include "event.h"

#define _Bool bool // the skeleton is C
#include "mpg_trace.skel.h"
#undef _Bool

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <elf.h>
#include <fcntl.h>
#include <fstream>
#include <gelf.h>
#include <memory>
#include <set>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <unistd.h>
#include <utility>
#include <vector>

namespace mpg_trace {

/// What the user is told; the program then ends with status 1.
struct failure : std::runtime_error {
    using std::runtime_error::runtime_error;
};

inline std::string in_words(int error) { return std::strerror(error < 0 ? -error : error); }

/// Has this ELF file probes of the provider mpg?
inline bool has_probes(const std::string& file) {
    ::elf_version(EV_CURRENT);
    const int fd = ::open(file.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    ::Elf* elf = ::elf_begin(fd, ELF_C_READ_MMAP, nullptr);
    bool found = false;
    for (::Elf_Scn* s = nullptr; elf && !found && (s = ::elf_nextscn(elf, s));) {
        ::GElf_Shdr header;
        if (!::gelf_getshdr(s, &header) || header.sh_type != SHT_NOTE) continue;
        ::Elf_Data* data = ::elf_getdata(s, nullptr);
        std::size_t name = 0, text = 0;
        ::GElf_Nhdr note;
        for (std::size_t at = 0; data && (at = ::gelf_getnote(data, at, &note, &name, &text)) > 0 && !found;) {
            const auto* bytes = static_cast<const char*>(data->d_buf);
            const std::size_t words = 3 * ::gelf_fsize(elf, ELF_T_ADDR, 1, EV_CURRENT); // where, base, semaphore
            found = note.n_type == 3 && std::string_view(bytes + name, note.n_namesz) == std::string_view("stapsdt", 8) &&
                    note.n_descsz >= words + 4 && std::memcmp(bytes + text + words, "mpg", 4) == 0;
        }
    }
    if (elf) ::elf_end(elf);
    ::close(fd);
    return found;
}

/// The program and the shared objects of a process that have probes, as paths that open.
inline std::vector<std::string> files_with_probes(::pid_t pid) {
    const std::string proc = "/proc/" + std::to_string(pid);
    if (::kill(pid, 0) != 0 && errno == ESRCH) throw failure("there is no process " + std::to_string(pid));
    std::array<char, 4096> name{};
    if (::readlink((proc + "/exe").c_str(), name.data(), name.size() - 1) < 0) {
        if (errno == ENOENT) throw failure("process " + std::to_string(pid) + " is a thread of the kernel, or has ended");
        throw failure("process " + std::to_string(pid) + " may not be looked at: " + in_words(errno) + " (be root)");
    }
    std::vector<std::string> out;
    if (has_probes(proc + "/exe")) out.push_back(proc + "/exe"); // also when the file was replaced meanwhile
    std::ifstream maps(proc + "/maps");
    std::set<std::string> seen{name.data()};
    for (std::string line; std::getline(maps, line);) {
        std::istringstream in(line);
        std::string range, access, offset, device, inode, path;
        in >> range >> access >> offset >> device >> inode;
        std::getline(in >> std::ws, path);
        if (path.empty() || path[0] != '/' || access.find('x') == std::string::npos || !seen.insert(path).second) continue;
        if (const std::string there = proc + "/root" + path; has_probes(there)) out.push_back(there);
    }
    if (out.empty())
        throw failure("process " + std::to_string(pid) + " (" + name.data() +
                      ") has no probes of mpg: it does not use the library, or was compiled with MPG_UNOBSERVED");
    return out;
}

class session {
  public:
    struct what {
        bool all = true;                  // else creations and ends only
        std::size_t buffer = 16u << 20;   // bytes: a power of two, at least a page
        std::string btf;                  // the kernel's types; empty: where the kernel shows them
        bool verbose = false;
    };

    session(::pid_t pid, const what& w) {
        talks() = w.verbose;
        ::libbpf_set_print(&say);
        const std::vector<std::string> files = files_with_probes(pid);
        const std::string btf = w.btf.empty() ? "/sys/kernel/btf/vmlinux" : w.btf;
        if (::access(btf.c_str(), R_OK) != 0)
            throw failure("no type information (BTF) of this kernel in " + btf + ": " + in_words(errno) +
                          "; it takes a kernel with CONFIG_DEBUG_INFO_BTF, or --btf FILE");
        ::bpf_object_open_opts options{};
        options.sz = sizeof options;
        if (!w.btf.empty()) options.btf_custom_path = w.btf.c_str();
        bpf_.reset(mpg_trace_bpf::open(&options));
        if (!bpf_) throw failure("cannot prepare the programs for the kernel: " + in_words(errno));
        ::bpf_map__set_max_entries(bpf_->maps.events, static_cast<__u32>(w.buffer));
        auto leave_out = [](::bpf_program* p) { ::bpf_program__set_autoload(p, false); };
        if (!w.all) {
            leave_out(bpf_->progs.task_start);
            leave_out(bpf_->progs.task_block);
            leave_out(bpf_->progs.task_ready);
            leave_out(bpf_->progs.task_preempt);
            leave_out(bpf_->progs.kernel_switch);
        }
        if (const int rc = mpg_trace_bpf::load(bpf_.get()); rc != 0) refused("load programs into the kernel", rc);
        const std::pair<const char*, ::bpf_program*> probes[] = {
            // The end first: a task that is seen to begin is seen to end.
            {"task__end", bpf_->progs.task_end},       {"task__create", bpf_->progs.task_create},
            {"task__start", bpf_->progs.task_start},   {"task__block", bpf_->progs.task_block},
            {"task__ready", bpf_->progs.task_ready},   {"preempt", bpf_->progs.task_preempt},
        };
        for (auto [probe, program] : probes) {
            if (!::bpf_program__autoload(program)) continue;
            for (const std::string& file : files) {
                if (::bpf_link* l = ::bpf_program__attach_usdt(program, pid, file.c_str(), "mpg", probe, nullptr))
                    links_.emplace_back(l);
                else if (errno != ENOENT) // a program need not have each
                    refused(("attach to " + std::string(probe) + " of " + file).c_str(), errno);
            }
        }
        if (w.all) {
            ::bpf_link* l = ::bpf_program__attach(bpf_->progs.kernel_switch);
            if (!l) refused("attach to the kernel's switches", errno);
            links_.emplace_back(l);
        }
        ring_.reset(::ring_buffer__new(::bpf_map__fd(bpf_->maps.events), &arrived, this, nullptr));
        if (!ring_) refused("open the ring buffer", errno);
    }

    /// Calls each(const mpg_trace_event&) for all that has come. Does not wait.
    template <class F> void consume(F each) {
        take_ = [](void* f, const mpg_trace_event& e) { (*static_cast<F*>(f))(e); };
        taker_ = &each;
        if (const int rc = ::ring_buffer__consume(ring_.get()); rc < 0) throw failure("cannot read events: " + in_words(rc));
    }
    std::uint64_t lost() const { return __atomic_load_n(&bpf_->bss->lost, __ATOMIC_RELAXED); }

    /// Return addresses, innermost first.
    std::vector<std::uint64_t> stack(std::int32_t key) const {
        std::vector<std::uint64_t> frames(MPG_TRACE_FRAMES);
        const auto k = static_cast<__u32>(key);
        if (key < 0 || ::bpf_map__lookup_elem(bpf_->maps.stacks, &k, sizeof k, frames.data(), frames.size() * 8, 0) != 0) return {};
        while (!frames.empty() && frames.back() == 0) frames.pop_back();
        return frames;
    }

  private:
    [[noreturn]] static void refused(const std::string& what, int error) {
        error = error < 0 ? -error : error;
        if (error == EPERM || error == EACCES)
            throw failure("not permitted to " + what + ": be root, or have CAP_BPF, CAP_PERFMON and CAP_SYS_PTRACE");
        throw failure("cannot " + what + ": " + in_words(error) + (talks() ? "" : " (--verbose tells more)"));
    }
    static int arrived(void* self, void* data, std::size_t size) {
        auto& s = *static_cast<session*>(self);
        if (size >= sizeof(mpg_trace_event)) s.take_(s.taker_, *static_cast<const mpg_trace_event*>(data));
        return 0;
    }
    static bool& talks() {
        static bool on = false;
        return on;
    }
    static int say(::libbpf_print_level, const char* format, std::va_list arguments) {
        return talks() ? std::vfprintf(stderr, format, arguments) : 0;
    }

    template <auto F> struct by {
        template <class T> void operator()(T* p) const { F(p); }
    };
    std::unique_ptr<mpg_trace_bpf, by<&mpg_trace_bpf::destroy>> bpf_;
    std::vector<std::unique_ptr<::bpf_link, by<&::bpf_link__destroy>>> links_;
    std::unique_ptr<::ring_buffer, by<&::ring_buffer__free>> ring_;
    void (*take_)(void*, const mpg_trace_event&) = nullptr;
    void* taker_ = nullptr;
};

} // namespace mpg_trace
