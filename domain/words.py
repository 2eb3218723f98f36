"""The Chinese words that people see, for every code (domain.md §2), and the sentences made of them."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from domain.calendar import SHANGHAI
from domain.case import (
    ActionKind,
    AppealAbout,
    Assignment,
    Basis,
    CaseState,
    Category,
    Clock,
    Direction,
    Grade,
    LeavingBy,
    LinkKind,
    Role,
    Stage,
)
from domain.commands import Act
from domain.district import AdoptionScope, Terms
from domain.events import (
    ActionTaken,
    Adjudicated,
    Admitted,
    AppealDecided,
    Appealed,
    Called,
    CallRefused,
    Cancelled,
    CheckedIn,
    CheckInConfirmed,
    CheckInDisputed,
    Closed,
    Dispatched,
    DoneReported,
    Entry,
    Escalated,
    ExtensionAsked,
    ExtensionDecided,
    Instructed,
    Linked,
    Objected,
    ObjectionReferred,
    OrderAnswered,
    PlanAgreed,
    Rated,
    Released,
    Reopened,
    Resumed,
    ReworkOrdered,
    SignDeemed,
    Signed,
    SuspensionAsked,
    SuspensionDecided,
    TermsAdopted,
    Transferred,
    UrgencyReviewed,
    Watched,
)
from domain.policy import ClockKind, LimitClass, Order, Receiver, Urgency

STAGES = {
    Stage.AWAITING_RELEASE: "待放行",
    Stage.AWAITING_ADMISSION: "待准入",
    Stage.CALLED: "待派单",
    Stage.DISPATCHED: "待签收",
    Stage.SIGNED: "待报到",
    Stage.CHECKED_IN: "已报到",
    Stage.ENFORCING: "联合执法",
    Stage.AWAITING_RATING: "待评价",
    Stage.SUSPENDED: "挂账",
    Stage.CLOSED: "已办结",
    Stage.CANCELLED: "已撤销",
    Stage.REFUSED: "已退回",
    Stage.MERGED: "已并案",
}
DIRECTIONS = {Direction.UP: "镇街吹哨", Direction.DOWN: "部门交办"}
CATEGORIES = {Category.LIVELIHOOD: "民生", Category.ENFORCEMENT: "执法", Category.DEVELOPMENT: "发展"}
URGENCIES = {Urgency.ROUTINE: "一般", Urgency.URGENT: "紧急"}
LIMIT_CLASSES = {
    LimitClass.SIMPLE: "简单",
    LimitClass.ORDINARY: "一般",
    LimitClass.HARD: "疑难",
    LimitClass.COMPLEX: "复杂",
}
CLOCKS = {
    ClockKind.RELEASE: "放行",
    ClockKind.REVIEW: "紧急复核",
    ClockKind.ADMISSION: "准入",
    ClockKind.DISPATCH: "派单",
    ClockKind.SIGN: "签收",
    ClockKind.CHECK_IN: "报到",
    ClockKind.CONFIRM: "报到确认",
    ClockKind.HANDLING: "办理",
    ClockKind.OBJECTION: "异议处理",
    ClockKind.RULING: "异议裁定",
    ClockKind.ORDER: "督办答复",
    ClockKind.FOLLOW_UP: "后续跟踪",
    ClockKind.SUSPENSION: "挂账",
    ClockKind.CASE: "全案",
    ClockKind.RATING: "评价",
    ClockKind.APPEAL: "申诉复核",
}
ACTS = {
    Act.RELEASE: "放行",
    Act.REFUSE: "退回",
    Act.DISPATCH: "派单",
    Act.OBJECT: "提出异议(退单)",
    Act.ADJUDICATE: "裁定异议",
    Act.TRANSFER: "转办",
    Act.SIGN: "签收",
    Act.CHECK_IN: "报到",
    Act.CONFIRM_CHECK_IN: "确认报到",
    Act.DISPUTE_CHECK_IN: "对报到提出异议",
    Act.PLAN: "登记方案",
    Act.ACTION: "登记执法措施",
    Act.DONE: "报告办理完成",
    Act.RATE: "评价",
    Act.REWORK: "退回重办",
    Act.EXTEND: "申请延期",
    Act.DECIDE_EXTENSION: "审批延期",
    Act.SUSPEND: "申请挂账",
    Act.DECIDE_SUSPENSION: "审批挂账",
    Act.RESUME: "恢复办理",
    Act.LINK: "关联(并案)",
    Act.WATCH: "领导关注",
    Act.INSTRUCT: "批示(督办)",
    Act.ANSWER_ORDER: "答复督办单",
    Act.CANCEL: "撤销",
    Act.REOPEN: "重新打开",
    Act.APPEAL: "申诉",
    Act.DECIDE_APPEAL: "复核申诉",
    Act.ADOPT_TERMS: "适用新版政策(日历)",
}
BASES = {
    Basis.CATALOGUE: "事项清单",
    Basis.LAW: "法律法规",
    Basis.MANDATE: "部门职责(三定规定)",
    Basis.FACTS: "事实情况",
}
APPEALS = {AppealAbout.RATING: "评价", AppealAbout.LATENESS: "超时认定"}
LINKS = {LinkKind.RELATED: "关联", LinkKind.DUPLICATE: "并案"}
SCOPES = {
    AdoptionScope.CALENDAR: "工作日历",
    AdoptionScope.POLICY: "政策",
    AdoptionScope.ALL: "政策和工作日历",
}
LEAVING = {LeavingBy.ADJUDICATION: "裁定解除", LeavingBy.TRANSFER: "已转办"}
ORDERS = {Order.WARNING: "预警", Order.REMINDER: "催办", Order.SUPERVISION: "督办", Order.REPORT: "上报"}
RECEIVERS = {
    Receiver.DUTY_OFFICER: "部门值班人员",
    Receiver.DEPARTMENT_HEAD: "部门负责人",
    Receiver.DISPATCHER: "指挥中心",
    Receiver.COORDINATOR: "区协调小组",
    Receiver.CITY_COORDINATOR: "市协调小组",
    Receiver.TOWNSHIP: "镇街",
}
STATUSES = {
    "dispatched": "待签收",
    "signed": "待报到",
    "checked_in": "已报到(待确认)",
    "confirmed": "已报到",
    "enforcing": "办理中",
    "done": "已完成(待评价)",
    "rated": "已评价",
}
GRADES = {Grade.SATISFIED: "满意", Grade.BASICALLY_SATISFIED: "基本满意", Grade.DISSATISFIED: "不满意"}
ACTIONS = {
    ActionKind.DEMOLITION: "拆除",
    ActionKind.DEMOLITION_NOTICE: "限期拆除通知",
    ActionKind.SEALING: "封堵(查封)",
    ActionKind.CLOSURE_ORDER: "责令关停",
    ActionKind.SEIZURE: "扣押",
    ActionKind.FINE: "罚款",
    ActionKind.MEDIATION: "调解",
    ActionKind.OTHER: "其他措施",
}
ROLES = {
    Role.CITIZEN: "群众",
    Role.GRID_WORKER: "网格员",
    Role.TOWNSHIP_OFFICER: "镇街经办人",
    Role.TOWNSHIP_APPROVER: "镇街审批人",
    Role.DISPATCHER: "派单员",
    Role.DEPARTMENT_OFFICER: "部门经办人",
    Role.DEPARTMENT_HEAD: "部门负责人",
    Role.RESIDENT_OFFICER: "常驻执法人员",
    Role.COORDINATOR: "协调小组",
    Role.LEADER: "领导",
    Role.SUPERVISOR: "督查",
    Role.AUDITOR: "审计",
    Role.ADMINISTRATOR: "管理员",
    Role.INTEGRATION: "接入系统",
}


def local(moment: datetime) -> str:
    """Return the moment as people in Shandong read it, to the minute: '11月23日 15:30'."""
    at = moment.astimezone(SHANGHAI)
    return f"{at.month}月{at.day}日 {at:%H:%M}"


def span(length: timedelta) -> str:
    """Return a length of time in the two largest units that matter: '2天3小时', '45分钟', '不足1分钟'."""
    minutes = int(length.total_seconds() // 60)
    days, minutes = divmod(minutes, 24 * 60)
    hours, minutes = divmod(minutes, 60)
    parts = [(days, "天"), (hours, "小时"), (minutes, "分钟")]
    told = [f"{amount}{unit}" for amount, unit in parts if amount][:2]
    return "".join(told) or "不足1分钟"


def summary(state: CaseState, terms: Terms) -> str:
    """Return one line for lists: township, urgency where it matters, title."""
    urgent = "【紧急】" if state.call.urgency is Urgency.URGENT else ""
    return f"{urgent}{terms.name(state.call.township)}:{state.call.title}"


def subject(state: CaseState, terms: Terms) -> str:
    """Return what a case is about without anything that the caller wrote: urgency, township, kind of matter."""
    urgent = "【紧急】" if state.call.urgency is Urgency.URGENT else ""
    matter = state.call.item_name or f"{CATEGORIES[state.call.category]}类事项"
    return f"{urgent}{terms.name(state.call.township)}·{matter}"


def label(state: CaseState, terms: Terms, at: datetime) -> str:
    """Return one line for operators' lists with nothing in it that the caller wrote: it is never encrypted."""
    overdue = "·超时" if state.is_overdue(at) else ""
    going_on = "·跟踪中" if state.is_over and not state.is_settled else ""
    return f"{subject(state, terms)}·{STAGES[state.stage]}{going_on}{overdue}"


def sentence(entry: Entry, terms: Terms) -> str:
    """Return what happened, as one Chinese sentence without the time and without who acted."""
    event, name = entry.event, terms.name
    match event:
        case Called():
            asked = event.call.requested_check_in_at
            wish = f",要求{local(asked)}报到" if asked else ""
            call = event.call
            again = f";同一事项同一地点此前已有 {len(call.recurs)} 件,升级阶梯提高" if call.raised else ""
            if call.direction is Direction.DOWN:
                asks = f"{name(call.caller_office or '')}交办{name(call.township)}"
            elif reporter := _reporter(entry):
                asks = f"{reporter}向{name(call.township)}反映"
            else:
                asks = f"{name(call.township)}吹哨"
            waits = f",{STAGES[event.awaits]}" if event.awaits else ""
            return f"{asks}:{call.title}({URGENCIES[call.urgency]}{wish}{waits}){again}"
        case CallRefused():
            return f"{'镇街自行办理' if event.self_handled else '退回呼叫'}:{event.reason}"
        case Cancelled():
            return f"撤销呼叫:{event.reason}"
        case Dispatched():
            others = "、".join(name(code) for code in event.cooperating)
            cooperating = f";配合单位:{others}" if others else ""
            automatic = "按事项清单自动派单" if event.automatic else "派单"
            residents = "、".join(name(code) for code in event.resident)
            first = f";先由常驻人员到场:{residents}" if residents else ""
            reason = f";与清单不一致的理由:{event.reason}" if event.reason else ""
            return (
                f"{automatic}。牵头单位:{name(event.lead)}{cooperating}"
                f"(办理时限类别:{LIMIT_CLASSES[event.limit_class]}){first}{reason}"
            )
        case Signed():
            return f"{name(event.department)}签收{'(超时补签)' if event.late else ''}"
        case SignDeemed():
            return f"{name(event.department)}超过签收时限({local(event.due_at)}),视同签收并计为未按时签收"
        case CheckedIn():
            officers = "、".join(officer.name for officer in event.officers)
            return f"{name(event.department)}报到:{officers},{local(event.arrived_at)}到达"
        case CheckInConfirmed():
            how = "镇街逾期未提异议,视为确认" if event.by_silence else "镇街确认"
            return f"{name(event.department)}报到:{how}"
        case CheckInDisputed():
            return f"{name(event.department)}报到有异议,不计入报到:{event.reason}"
        case PlanAgreed():
            return f"{name(event.department)}登记处置方案:{event.text}"
        case ActionTaken():
            action = event.action
            follow_up = f";整改期限{action.follow_up_on:%Y-%m-%d}" if action.follow_up_on else ""
            settles = f"(后续跟踪第{action.settles}项)" if action.settles else ""
            return (
                f"{name(action.department)}{ACTIONS[action.kind]}{settles}:{action.description};"
                f"结果:{action.result}{follow_up}"
            )
        case DoneReported():
            return f"{name(event.department)}报告办理完成:{event.result}"
        case Rated():
            solved = "已解决" if event.solved else "未解决"
            comment = f":{event.comment}" if event.comment else ""
            return f"评价{name(event.department)}:{GRADES[event.grade]},{solved}{comment}"
        case ReworkOrdered():
            return f"{name(event.department)}退回重办(第{event.round}次办理):{event.reason}"
        case Escalated():
            told = "、".join(RECEIVERS[receiver] for receiver in event.receivers)
            owner = _owner(event.clock, event.department, terms)
            if event.order is Order.WARNING:
                return f"{owner}{CLOCKS[event.clock]}临期({local(event.due_at)}到期),预警,通知{told}"
            number = f"(督办单第{event.supervision}号,须答复)" if event.supervision else ""
            return (
                f"{owner}{CLOCKS[event.clock]}超时({local(event.due_at)}到期),"
                f"第{event.level}级{ORDERS[event.order]}{number},通知{told}"
            )
        case Released():
            return f"审批放行{_note(event.note)}"
        case Admitted():
            return f"协调小组准入{_note(event.note)}"
        case UrgencyReviewed():
            return f"紧急呼叫复核:{'属实' if event.justified else '不属紧急情形'}{_note(event.note)}"
        case Objected():
            whom = "协调小组" if event.before_group else "派单员"
            return (
                f"{name(event.department)}提出异议(依据{BASES[event.basis]},建议由{name(event.proposed)}承办):"
                f"{event.reason};由{whom}处理,时钟照走"
            )
        case ObjectionReferred():
            return f"{name(event.department)}的异议逾期未处理,转协调小组裁定"
        case Adjudicated():
            return _ruling(event, terms)
        case Transferred():
            role = "牵头" if event.leads else "配合"
            return f"转办:{name(event.department)}转{name(event.to)}({role}):{event.reason};全案时限不变"
        case ExtensionAsked():
            return f"{name(event.department)}申请延期{event.add}:{event.reason}"
        case ExtensionDecided():
            return _extension(event, terms)
        case SuspensionAsked():
            return f"{name(event.department or '')}申请挂账至{local(event.until)}:{event.reason}"
        case SuspensionDecided():
            return f"{'批准挂账,时钟暂停' if event.approved else '不同意挂账'}{_note(event.reason)}"
        case Resumed():
            how = "挂账到期,自动恢复" if event.by_date else "恢复办理"
            return f"{how}{_note(event.reason)}{_moved(event, terms)}"
        case Linked():
            return f"{LINKS[event.link]}案件 {event.other}{_note(event.note)}"
        case Watched():
            return "领导关注" if event.watching else "取消关注"
        case Instructed():
            to = f"{name(event.department)}:" if event.department else ""
            kind = f"签发督办单(第{event.order}号),须答复" if event.order else "批示"
            return f"{kind}:{to}{event.text}"
        case OrderAnswered():
            return f"{name(event.department)}答复督办单(第{event.number}号):{event.text}"
        case Reopened():
            who = "、".join(name(code) for code in event.departments)
            approved = "(协调小组批准)" if event.by_group else ""
            return f"重新打开{approved}:{event.reason};重新办理:{who}"
        case Appealed():
            return f"{name(event.department)}对{APPEALS[event.about]}提出申诉:{event.reason}"
        case AppealDecided():
            return _verdict(event, terms)
        case TermsAdopted():
            versions = f"政策 {event.terms.policy.version},日历 {event.terms.calendar.version}"
            return f"适用新的{SCOPES[event.scope]}({versions}):{event.reason}{_moved(event, terms)}"
        case Closed():
            return (
                f"办结:{'、'.join(name(code) for code in event.unrated)}逾期未评价"
                if event.unrated
                else "办结"
            )


def _reporter(entry: Entry) -> str:
    """Return as what somebody reports to a township who does not call for it; empty for the township itself."""
    roles = {post.role for post in entry.by.posts} if entry.by else set()
    return next((ROLES[role] for role in (Role.CITIZEN, Role.GRID_WORKER) if role in roles), "")


def _note(note: str) -> str:
    return f":{note}" if note else ""


def _ruling(event: Adjudicated, terms: Terms) -> str:
    whose = "协调小组裁定(具有约束力)" if event.binding else "派单员处理"
    result = f"异议成立,改由{terms.name(event.owner)}承办" if event.owner else "异议不成立"
    if event.upheld and event.owner is None:
        result = "异议成立"
    return f"{whose}:{terms.name(event.department)}{result}:{event.reason}"


def _extension(event: ExtensionDecided, terms: Terms) -> str:
    office = {"township": "镇街", "group": "协调小组"}.get(event.office or "")
    if office is None:
        return f"{terms.name(event.department)}延期申请在时限届满前未获批准,失效"
    result = "同意" if event.approved else "不同意"
    granted = f";已延期{_moved(event, terms)}" if event.granted else ""
    return f"{office}{result}{terms.name(event.department)}延期{_note(event.reason)}{granted}"


def _verdict(event: AppealDecided, terms: Terms) -> str:
    result = "支持" if event.uphold else "驳回"
    grade = f",更正为{GRADES[event.grade]}" if event.grade else ""
    ended = {None: "(待另一位复核人)", True: "(申诉成立,原评价保留备查)", False: "(申诉不成立)"}[event.upheld]
    return f"复核{terms.name(event.department)}的申诉:{result}{grade}{ended}:{event.reason}"


def _moved(event: ExtensionDecided | Resumed | TermsAdopted, terms: Terms) -> str:
    """Return where the clocks went, as people read it."""
    told = [
        f"{terms.name(move.department) if move.department else ''}{CLOCKS[move.clock]}至{local(move.due_at)}"
        f"{'(暂估)' if move.estimated else ''}"
        for move in event.moved
    ]
    return f":{'、'.join(told)}" if told else ""


def _owner(kind: ClockKind, department: str | None, terms: Terms) -> str:
    about = {ClockKind.RULING: "协调小组对{}的", ClockKind.APPEAL: "督查对{}的"}.get(kind, "{}")
    if department:
        return about.format(terms.name(department))
    return {ClockKind.CASE: "", ClockKind.DISPATCH: "指挥中心", ClockKind.ADMISSION: "协调小组"}.get(
        kind, "镇街"
    )


def alarm(due: datetime, acting: Sequence[Clock], terms: Terms) -> str:
    """Return what a timer was set for, in one line: whose limit, which, and until when.

    It says so: an act that makes a timer needless leaves it as it stands (`workflows.case.Case._set_alarm`).

    Args:
        acting: the clocks that do something at the moment `due`; see `domain.clocks.acting_at`.
    """
    if not acting:
        return f"设定时的下一时限:{local(due)}"
    first, more = acting[0], len(acting) - 1
    others = f"等{len(acting)}项" if more else ""
    limit = f"{_owner(first.kind, first.department, terms)}{CLOCKS[first.kind]}{others}"
    if due < first.due_at:
        return f"设定时的下一时限:{limit} 截止 {local(first.due_at)}({local(due)} 临期预警)"
    if due > first.due_at:
        return f"设定时的下一升级:{limit} 已于 {local(first.due_at)} 超时({local(due)} 升级)"
    return f"设定时的下一时限:{limit} 截止 {local(due)}"


_LONGEST_SUMMARY = 24
"""Temporal keeps summaries of up to 400 bytes; the Temporal UI shows ten characters in a row and more on request, and a history pays for each."""


def recorded(entries: Sequence[Entry], terms: Terms) -> str:
    """Return what is written into the ledger, in one short line: which entries, and what the first of them tells."""
    told = sentence(entries[0], terms)
    short = told if len(told) <= _LONGEST_SUMMARY else f"{told[:_LONGEST_SUMMARY]}…"
    last = f"–{entries[-1].sequence}" if len(entries) > 1 else ""
    return f"台账{entries[0].sequence}{last}:{short}"


def actor_name(entry: Entry) -> str:
    """Return who acted, or that the clock did."""
    return entry.by.name if entry.by else "系统时钟"


def light(clock: Clock, at: datetime, yellow_share: float) -> str:
    """Return the colour word of a clock: 红(超时), 黄(临期), 绿; 停(挂账) while it stands still."""
    if clock.paused_at is not None:
        return "停(挂账)"
    if clock.is_red(at):
        return "红(超时)"
    return "黄(临期)" if clock.is_yellow(at, yellow_share) else "绿(正常)"


def details(state: CaseState, latest: list[Entry], at: datetime, terms: Terms) -> str:
    """Return the case as Markdown for the Temporal UI: stage, each department's clocks, what happened last.

    No personal data of the caller: this text is not encrypted in every installation.
    """
    call, share = state.call, terms.policy.yellow_share
    lines = [
        f"## {STAGES[state.stage]}",
        f"**{summary(state, terms)}**",
        f"地点:{call.location.address}",
        f"类别:{CATEGORIES[call.category]} · 事项:{call.item_name or '未列事项'} · 政策版本:{state.policy_version}",
        *_next_limit(state, at, share, terms),
        "",
    ]
    lines += _attention(state, terms)
    if state.assignments:
        lines += [_row(state, assignment, at, share, terms) for assignment in state.assignments]
        lines.append("")
    own = [clock for clock in state.running if clock.department is None]
    lines += [
        f"- {CLOCKS[clock.kind]}时钟:{local(clock.due_at)}到期 {light(clock, at, share)}"
        f"{'(节假日安排未公布,暂估)' if clock.estimated else ''}"
        for clock in own
    ]
    lines += ["", "### 最近动态"]
    lines += [
        f"- {local(entry.at)} {actor_name(entry)}:{sentence(entry, terms)}" for entry in reversed(latest)
    ]
    return "\n".join(lines)


def _next_limit(state: CaseState, at: datetime, share: float, terms: Terms) -> list[str]:
    """Return the earliest limit that somebody can be late for, or nothing."""
    clock = state.next_limit
    if clock is None:
        return []
    whose = f"{_owner(clock.kind, clock.department, terms)}{CLOCKS[clock.kind]}"
    return [f"**下一时限**:{whose},{local(clock.due_at)}到期 {light(clock, at, share)}"]


def _attention(state: CaseState, terms: Terms) -> list[str]:
    """Return what an operator should see before the clocks: what stands still, is open, or came before."""
    found = []
    if state.suspension is not None:
        found.append(f"- **挂账**至 {local(state.suspension.until)}:{state.suspension.reason}")
    found += [
        f"- **异议待裁定**:{terms.name(each.department)},建议{terms.name(each.proposed)}承办"
        f"({'协调小组' if each.before_group else '派单员'})"
        for each in state.objections
        if each.is_open
    ]
    found += [
        f"- **延期待审批**:{terms.name(each.department)},{each.add}"
        for each in state.extensions
        if each.is_open
    ]
    found += [f"- **挂账待审批**:至 {local(each.until)}" for each in state.suspensions if each.is_open]
    found += [
        f"- **督办单待答复**:第{each.number}号,{terms.name(each.department)}"
        for each in state.orders
        if each.answered_at is None
    ]
    found += [
        f"- **后续跟踪**第{each.number}项:{terms.name(each.department)},{each.on:%Y-%m-%d}"
        for each in state.follow_ups
        if each.settled_at is None
    ]
    found += [f"- **申诉待复核**:{terms.name(each.department)}" for each in state.appeals if each.is_open]
    if state.watchers:
        found.append(f"- 领导关注:{len(state.watchers)} 人")
    if state.call.recurs:
        found.append(f"- 同一事项同一地点此前案件:{'、'.join(state.call.recurs[:3])}")
    return [*found, ""] if found else []


def _row(state: CaseState, assignment: Assignment, at: datetime, share: float, terms: Terms) -> str:
    clocks = [clock for clock in state.running if clock.department == assignment.department]
    current = min(clocks, key=lambda clock: clock.due_at, default=None)
    role = "牵头" if assignment.lead else "配合"
    clock = (
        f",{CLOCKS[current.kind]} {local(current.due_at)} 到期 {light(current, at, share)}" if current else ""
    )
    return f"- **{terms.name(assignment.department)}**({role}){STATUSES[assignment.status]}{clock}"
