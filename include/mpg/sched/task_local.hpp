// task_local: one value per task.
#pragma once

#include <mpg/sched/this_task.hpp>

#include <memory>
#include <vector>

namespace mpg::sched {

/// The values of one task, by variable.
struct local_values {
    struct value {
        const void* key;
        void* object;
        void (*destroy)(void*) noexcept;
    };
    std::vector<value> values;

    void* find(const void* key) const noexcept {
        for (const value& v : values)
            if (v.key == key) return v.object;
        return nullptr;
    }
    ~local_values() {
        while (!values.empty()) { // the youngest first
            value v = values.back();
            values.pop_back();
            v.destroy(v.object);
        }
    }
};

/// A plain thread's values die with the thread.
inline local_values& thread_locals() {
    static thread_local local_values values;
    return values;
}

inline local_values& locals_of(task& t) {
    if (t.is_thread()) return thread_locals();
    task_extras& x = extras_of(t);
    if (!x.locals) {
        x.locals = new local_values;
        x.destroy_locals = [](void* p) noexcept { delete static_cast<local_values*>(p); };
    }
    return *static_cast<local_values*>(x.locals);
}

} // namespace mpg::sched

namespace mpg {

/// A variable of which every task (and plain thread) has its own T: value-initialised at its first use there, destroyed
/// when the task ends. Make it static or global. get() costs a short search among the task's variables.
template <class T> class task_local {
  public:
    task_local() = default;
    task_local(const task_local&) = delete;
    task_local& operator=(const task_local&) = delete;

    T& get() const {
        sched::local_values& values = sched::locals_of(*sched::current());
        if (void* found = values.find(this)) return *static_cast<T*>(found);
        auto made = std::make_unique<T>();
        values.values.push_back({this, made.get(), [](void* p) noexcept { delete static_cast<T*>(p); }});
        return *made.release();
    }
    T& operator*() const { return get(); }
    T* operator->() const { return &get(); }
    void set(T value) const { get() = std::move(value); }
};

} // namespace mpg
