// From program counters to names.
//
// With elfutils' libdw (MPG_HAVE_LIBDW, set by the CMake package where it is found): functions, inlined calls, files and
// lines, from the symbol table and debug information of each module. Without: the dynamic symbols that dladdr knows.
// Without those too (static and stripped): addresses, in the form that addr2line takes: module+offset.
#pragma once

#include <mpg/debug/forget.hpp>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cxxabi.h>
#include <dlfcn.h>
#include <link.h>
#include <memory>
#include <string>
#include <string_view>
#include <unistd.h>
#include <unordered_map>
#include <vector>

#if defined(MPG_HAVE_LIBDW)
#include <dwarf.h>
#include <elfutils/libdw.h>
#include <elfutils/libdwfl.h>
#endif

namespace mpg::debug {

/// A call at some pc; inlined functions have several, innermost first.
struct location {
    std::string function; // demangled, "" when not known
    std::string linkage;  // as the linker knows it
    std::string file;     // "" when not known
    unsigned line = 0;
    bool inlined = false; // into the next one
};

namespace detail {

inline std::string demangle(const char* name) {
    if (!name) return {};
    int status = 0;
    std::unique_ptr<char, decltype(&std::free)> text(abi::__cxa_demangle(name, nullptr, nullptr, &status), &std::free);
    return status == 0 && text ? std::string(text.get()) : std::string(name);
}

/// A loaded object: for addresses that have no name, and for profiles.
struct module_info {
    std::uint64_t start = 0, end = 0; // of its executable mapping
    std::uint64_t bias = 0;           // from file's addresses to ours
    std::uint64_t offset = 0;         // of that mapping in the file
    std::string file;
};

inline std::vector<module_info> loaded_modules() {
    std::vector<module_info> all;
    ::dl_iterate_phdr(
        [](::dl_phdr_info* i, std::size_t, void* arg) {
            auto& out = *static_cast<std::vector<module_info>*>(arg);
            for (int k = 0; k < i->dlpi_phnum; ++k) {
                const auto& h = i->dlpi_phdr[k];
                if (h.p_type != PT_LOAD || !(h.p_flags & PF_X)) continue;
                module_info m;
                m.bias = i->dlpi_addr;
                m.start = i->dlpi_addr + h.p_vaddr;
                m.end = m.start + h.p_memsz;
                m.offset = h.p_offset;
                if (i->dlpi_name) m.file = i->dlpi_name;
                if (m.file.empty()) {
                    char path[4096];
                    ::ssize_t n = ::readlink("/proc/self/exe", path, sizeof path);
                    if (n > 0) m.file.assign(path, static_cast<std::size_t>(n));
                }
                out.push_back(std::move(m));
            }
            return 0;
        },
        &all);
    return all;
}

/// Looks up names, and remembers them. Not thread-safe. Needs a thread's ordinary stack (libdw recurses).
class symbolizer {
  public:
    /// Of this process.
    symbolizer() : own_(true), modules_(loaded_modules()) { open(::getpid()); }
    /// Of another one; needs libdw.
    explicit symbolizer(::pid_t process) {
        open(process);
#if defined(MPG_HAVE_LIBDW)
        if (dwfl_) ::dwfl_getmodules(dwfl_, &add_module, &modules_, 0);
#endif
    }
    symbolizer(const symbolizer&) = delete;
    symbolizer& operator=(const symbolizer&) = delete;
    ~symbolizer() {
#if defined(MPG_HAVE_LIBDW)
        if (dwfl_) ::dwfl_end(dwfl_);
#endif
        for (module_info& m : modules_) forget(m.file);
        for (auto& [pc, where] : known_) {
            for (location& l : where) forget(l.function, l.linkage, l.file);
            forget(where);
        }
        forget(modules_);
    }

    /// At least one, innermost first. pc: within the call (a return address minus one).
    const std::vector<location>& at(std::uint64_t pc) {
        auto [it, fresh] = known_.try_emplace(pc);
        if (fresh) it->second = look_up(pc);
        return it->second;
    }
    const std::vector<module_info>& modules() const noexcept { return modules_; }

    /// "module+0x12ab": what addr2line -e module takes.
    std::string address(std::uint64_t pc) const {
        char text[64];
        for (const module_info& m : modules_)
            if (pc >= m.start && pc < m.end) {
                std::snprintf(text, sizeof text, "+0x%llx", static_cast<unsigned long long>(pc - m.bias));
                return m.file.substr(m.file.rfind('/') + 1) + text;
            }
        std::snprintf(text, sizeof text, "0x%llx", static_cast<unsigned long long>(pc));
        return text;
    }

  private:
    void open([[maybe_unused]] ::pid_t process) {
#if defined(MPG_HAVE_LIBDW)
        static const ::Dwfl_Callbacks callbacks{&::dwfl_linux_proc_find_elf, &::dwfl_standard_find_debuginfo, nullptr,
                                                nullptr};
        dwfl_ = ::dwfl_begin(&callbacks);
        if (dwfl_ && (::dwfl_linux_proc_report(dwfl_, process) != 0 || ::dwfl_report_end(dwfl_, nullptr, nullptr) != 0)) {
            ::dwfl_end(dwfl_);
            dwfl_ = nullptr;
        }
#endif
    }

    std::vector<location> look_up(std::uint64_t pc) {
        std::vector<location> out;
#if defined(MPG_HAVE_LIBDW)
        if (dwfl_) with_dwarf(pc, out);
#endif
        if (out.empty()) out.emplace_back();
        if (own_ && out.back().function.empty()) {
            ::Dl_info info{};
            if (::dladdr(reinterpret_cast<void*>(pc), &info) && info.dli_sname) {
                out.back().linkage = info.dli_sname;
                out.back().function = demangle(info.dli_sname);
            }
        }
        return out;
    }

#if defined(MPG_HAVE_LIBDW)
    static int add_module(::Dwfl_Module* module, void**, const char* name, ::Dwarf_Addr, void* arg) {
        module_info m;
        const char* file = nullptr;
        ::Dwarf_Addr start = 0, end = 0;
        ::GElf_Addr bias = 0;
        ::dwfl_module_info(module, nullptr, &start, &end, nullptr, nullptr, &file, nullptr);
        if (!::dwfl_module_getelf(module, &bias)) return DWARF_CB_OK;
        m.start = start;
        m.end = end;
        m.bias = bias;
        m.file = file ? file : name;
        static_cast<std::vector<module_info>*>(arg)->push_back(std::move(m));
        return DWARF_CB_OK;
    }

    static const char* linkage_of(::Dwarf_Die* die) {
        ::Dwarf_Attribute a;
        if (::dwarf_attr_integrate(die, DW_AT_linkage_name, &a)) return ::dwarf_formstring(&a);
        if (::dwarf_attr_integrate(die, DW_AT_MIPS_linkage_name, &a)) return ::dwarf_formstring(&a);
        return ::dwarf_diename(die);
    }

    static ::Dwarf_Die* unit_of(::Dwfl_Module* module, std::uint64_t pc, ::Dwarf_Addr& bias) {
        if (::Dwarf_Die* unit = ::dwfl_module_addrdie(module, pc, &bias)) return unit;
        // It looks in .debug_aranges, which Clang does not write.
        for (::Dwarf_Die* unit = nullptr; (unit = ::dwfl_module_nextcu(module, unit, &bias));)
            if (::dwarf_haspc(unit, pc - bias) == 1) return unit;
        return nullptr;
    }

    /// From the function that contains pc down to the innermost call that is inlined there. (dwarf_getscopes goes on from an
    /// inlined function to where that is defined, not to its caller.)
    static bool find_scopes(::Dwarf_Die* parent, ::Dwarf_Addr pc, std::vector<::Dwarf_Die>& out) {
        ::Dwarf_Die child;
        if (::dwarf_child(parent, &child) != 0) return false;
        do {
            switch (::dwarf_tag(&child)) {
            case DW_TAG_subprogram:
            case DW_TAG_inlined_subroutine:
            case DW_TAG_lexical_block:
            case DW_TAG_try_block:
            case DW_TAG_catch_block:
                if (::dwarf_haspc(&child, pc) != 1) break;
                out.push_back(child);
                find_scopes(&child, pc, out);
                return true;
            case DW_TAG_namespace:
                if (find_scopes(&child, pc, out)) return true;
                break;
            default: break;
            }
        } while (::dwarf_siblingof(&child, &child) == 0);
        return false;
    }

    void with_dwarf(std::uint64_t pc, std::vector<location>& out) {
        ::Dwfl_Module* module = ::dwfl_addrmodule(dwfl_, pc);
        if (!module) return;
        location at;
        ::Dwarf_Addr bias = 0;
        if (::Dwarf_Die* unit = unit_of(module, pc, bias)) {
            if (::Dwarf_Line* line = ::dwarf_getsrc_die(unit, pc - bias)) {
                int number = 0;
                const char* file = ::dwarf_linesrc(line, nullptr, nullptr);
                if (file && ::dwarf_lineno(line, &number) == 0) {
                    at.file = file;
                    at.line = static_cast<unsigned>(number);
                }
            }
            std::vector<::Dwarf_Die> scopes;
            find_scopes(unit, pc - bias, scopes);
            for (std::size_t i = scopes.size(); i-- > 0;) {
                int tag = ::dwarf_tag(&scopes[i]);
                if (tag != DW_TAG_inlined_subroutine && tag != DW_TAG_subprogram) continue;
                if (const char* name = linkage_of(&scopes[i])) {
                    at.linkage = name;
                    at.function = demangle(name);
                }
                if (tag == DW_TAG_subprogram) break;
                at.inlined = true;
                out.push_back(at);
                at = call_site(unit, scopes[i]);
            }
        }
        // The symbol table knows the function itself best.
        ::GElf_Off offset;
        ::GElf_Sym symbol;
        if (const char* name = ::dwfl_module_addrinfo(module, pc, &offset, &symbol, nullptr, nullptr, nullptr)) {
            at.linkage = name;
            at.function = demangle(name);
        }
        at.inlined = false;
        out.push_back(at);
    }

    static location call_site(::Dwarf_Die* unit, ::Dwarf_Die& inlined) {
        location at;
        ::Dwarf_Attribute a;
        ::Dwarf_Word file = 0, line = 0;
        if (::dwarf_attr(&inlined, DW_AT_call_line, &a) && ::dwarf_formudata(&a, &line) == 0)
            at.line = static_cast<unsigned>(line);
        ::Dwarf_Files* files = nullptr;
        if (::dwarf_attr(&inlined, DW_AT_call_file, &a) && ::dwarf_formudata(&a, &file) == 0 &&
            ::dwarf_getsrcfiles(unit, &files, nullptr) == 0)
            if (const char* name = ::dwarf_filesrc(files, file, nullptr, nullptr)) at.file = name;
        return at;
    }

    ::Dwfl* dwfl_ = nullptr;
#endif
    const bool own_ = false;
    std::vector<module_info> modules_;
    std::unordered_map<std::uint64_t, std::vector<location>> known_;
};

} // namespace detail
} // namespace mpg::debug
