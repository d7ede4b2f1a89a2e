// The texts of the desk, and what its problems are called in Chinese.

import { add, current, has, t } from './web/i18n.js';

add({
	'desk': ['Desk', '确认台'],
	'requests': ['Requests', '请求'], 'new': ['New request', '新请求'], 'people': ['People', '人员'], 'enrol': ['Enrol', '登记设备'],
	'about': ['Nothing here was decided in a call. Read each request as if nobody had told you of it.', '这里的决定都不在通话中作出。阅读每个请求时，请当作没有人向您提过它。'],
	'sign.in': ['Sign in with your passkey', '用通行密钥登录'],
	'sign.in.text': ['Only enrolled devices open this desk. It never sends links: if you came here by one, close this page.', '只有已登记的设备才能进入。确认台从不发送链接：如果您是点链接来的，请关闭本页。'],
	'sign.out': ['Sign out', '退出'],
	'none': ['Nothing waits for you.', '没有等待您处理的请求。'],
	'waiting': ['Waits for you', '等待您处理'], 'others': ['All requests', '全部请求'],
	'action': ['Action', '事项'], 'amount': ['Amount', '金额'], 'currency': ['Currency', '币种'], 'payee': ['Payee', '收款人'],
	'account': ['Account', '账号'], 'requested_by': ['In whose name', '以谁的名义'], 'filed_by': ['Filed by', '提交人'],
	'call_id': ['Call (if it came from one)', '通话编号（如来自通话）'], 'note': ['Note', '说明'],
	'action.transfer': ['Transfer', '转账'], 'action.payment': ['Payment', '付款'], 'action.change_account': ['Change of account', '变更账号'], 'action.other': ['Other', '其他'], 'action.configure': ['Change of this desk', '变更本台设置'],
	'file': ['File the request', '提交请求'],
	'file.text': ['The person in whose name it is, and others who were not in the call, confirm it on their own devices.', '名义请求人以及未参加通话的同事，将各自在自己的设备上确认。'],
	'filed': ['Filed. It waits for its approvals.', '已提交，等待确认。'], 'filed.denied': ['The policy refuses this request.', '政策拒绝此请求。'],
	'status.pending': ['Waits', '等待确认'], 'status.cleared': ['Approved', '已批准'], 'status.consumed': ['Released', '已放行'],
	'status.denied': ['Denied', '已拒绝'], 'status.expired': ['Denied: no answer in time', '已拒绝：逾时未答复'],
	'until': ['{minutes} min left, then it is denied', '剩余 {minutes} 分钟，逾时即拒绝'],
	'cooling': ['Cooling off until {at}', '冷静期至 {at}'],
	'why': ['Why it is out of the ordinary', '异常之处'],
	'reason.amount': ['The amount is high.', '金额较大。'], 'reason.amount_refused': ['The amount is above what this desk confirms.', '金额超出本台可确认的上限。'],
	'reason.velocity': ['Many requests together make a high sum.', '近期请求合计金额较大。'], 'reason.velocity_refused': ['The requests of the last hours exceed the limit together.', '近期请求合计超出上限。'],
	'reason.payee_velocity': ['The sum to this payee or account is high.', '向此收款人或账号的合计金额较大。'], 'reason.payee_velocity_refused': ['The sum to this payee or account exceeds the limit.', '向此收款人或账号的合计超出上限。'],
	'reason.count': ['There were many requests in the last hours.', '近期请求过多。'], 'reason.no_rate': ['The policy has no rate for this currency.', '政策中没有此币种的汇率。'],
	'reason.new_payee': ['Nothing was ever released to this payee.', '从未向此收款人付款。'], 'reason.changed_account': ['This payee was paid to another account before.', '此收款人以往使用另一账号。'],
	'reason.shared_account': ['This account was another payee’s.', '此账号曾属于另一收款人。'], 'reason.out_of_hours': ['It is out of hours.', '非办公时间。'],
	'reason.secrecy': ['The note asks for secrecy.', '说明要求保密。'], 'reason.urgency': ['The note asks for haste.', '说明催促办理。'],
	'reason.call': ['The call that it came from is not verified.', '来源通话未经验证。'], 'reason.call_refused': ['The call that it came from was tampered with.', '来源通话被篡改。'],
	'type.account': ['Type the last four characters of the account', '请输入账号的最后四位'], 'type.amount': ['Type the amount without what is after its point', '请输入金额的整数部分'],
	'approve': ['Approve with your passkey', '用通行密钥批准'], 'deny': ['Deny', '拒绝'], 'duress': ['I am being coerced', '我正受到胁迫'],
	'duress.text': ['Looks like an approval to whoever watches. Everything is denied, and administrators are told.', '旁人看来与批准无异；实际上全部拒绝，并通知管理员。'],
	'recorded': ['Your answer is recorded.', '您的答复已记录。'], 'denied': ['The request is denied.', '请求已拒绝。'],
	'code': ['One-time code (can be phished; small amounts only)', '一次性验证码（可被钓鱼，仅限小额）'], 'code.use': ['Approve with the code', '用验证码批准'],
	'your.part.requester': ['This is in your name. Did you ask for it?', '此请求以您的名义提出。是您提出的吗？'], 'your.part.independent': ['You are asked as somebody independent. Ask the requester by a number that you know.', '请您独立判断。请拨打您已知的号码向请求人核实。'],
	'approvals': ['{done} of {needed} approvals', '已确认 {done}/{needed}'],
	'alarm': ['An approver answered under duress. Do not call back by the same channel.', '有确认人在胁迫下答复。请勿使用同一渠道回电。'],
	'handle': ['Handle', '代号'], 'name': ['Name', '姓名'], 'roles': ['Roles', '角色'], 'passkeys': ['Passkeys', '通行密钥'],
	'role.file': ['may file', '可提交'], 'role.approve': ['may approve', '可确认'], 'role.admin': ['administrator', '管理员'],
	'ticket.open': ['Open', '开立'], 'ticket.title': ['Enrolment or recovery', '登记或恢复'], 'ticket.kind': ['Kind', '类别'],
	'kind.enrol': ['Enrol a device', '登记设备'], 'kind.recover': ['Recover: end older devices', '恢复：停用旧设备'], 'kind.totp': ['One-time codes (fallback)', '一次性验证码（备用）'],
	'tickets': ['Waiting enrolments', '待办登记'], 'tickets.none': ['None.', '无。'],
	'vouch': ['Vouch with your passkey', '用通行密钥担保'], 'vouch.text': ['You say that this person stands before you. {sponsors} of {needs} did.', '您确认此人就在您面前。已有 {sponsors}/{needs} 人担保。'],
	'half': ['Your half of the code, shown this once. Say it to the person yourself:', '您的半个代码（仅显示一次），请亲口告诉本人：'],
	'enrol.text': ['Two colleagues vouched for you, and each gave you half of a code. Type the number of the enrolment and both halves.', '两位同事为您担保，各给您半个代码。请输入登记编号和两个半码。'],
	'enrol.code': ['Whole code', '完整代码'], 'enrol.go': ['Enrol this device', '登记此设备'], 'enrol.done': ['This device is enrolled. Sign in with it.', '设备已登记，请用它登录。'],
	'secret': ['Add this secret to an authenticator app, then type its code: {secret}', '将此密钥加入验证器应用，再输入验证码：{secret}'],
	'six': ['Six digits', '六位数字'],
	'footer': ['No answer is a denial. Approvals are kept as signed receipts: sorano desk audit.', '不答复即拒绝。所有批准均存为已签名的收据：sorano desk audit。'],
	'privacy': ['Privacy', '隐私'], 'privacy.long': ['How long', '保存多久'], 'privacy.erased': ['Erased by', '如何删除'],
	'privacy.text': ['What this desk stores of people, how long, and how it is erased. Logs have random ids, routes, codes and times alone. Fingerprints and faces stay in your device: the desk gets a signature.', '本台保存哪些个人信息、保存多久、如何删除。日志只有随机编号、路径、代码和时间。指纹与人脸留在您的设备中，本台只收到签名。'],
	'privacy.endpoint': ['Questions to the desk are worded by a language model that its operator named; account numbers do not reach it.', '向本台提的问题由运营者指定的语言模型作答；账号不会发送给它。'], 'privacy.no_endpoint': ['Nothing is sent to anybody else.', '不向任何第三方发送数据。'],
	'privacy.request': ['What a request says: amount, payee, account, note, call', '请求的内容：金额、收款人、账号、说明、通话'], 'privacy.request.long': ['{days} days after its end', '结束后 {days} 天'], 'privacy.request.erased': ['The desk itself, every hour', '本台每小时自动删除'],
	'privacy.person': ['Handle and name of people', '人员的代号和姓名'], 'privacy.person.long': ['Until they leave, then {days} days', '离开后 {days} 天'], 'privacy.person.erased': ['An administrator ends the person; then the desk itself', '管理员停用该人员后，由本台自动删除'],
	'privacy.passkey': ['Public keys of passkeys, and their counters', '通行密钥的公钥与计数器'], 'privacy.passkey.long': ['For ever: receipts are checked with them', '永久：用于核验收据'], 'privacy.passkey.erased': ['Not; they name nobody once the directory does not', '不删除；名录中没有此人后，它们不指向任何人'],
	'privacy.code': ['Secrets of one-time codes', '一次性验证码的密钥'], 'privacy.code.long': ['Until the person leaves or recovers', '至人员离开或恢复登记'], 'privacy.code.erased': ['At once', '立即删除'],
	'privacy.payee': ['Payees and accounts that were paid, as keyed digests', '已付款的收款人和账号（加密钥的摘要）'], 'privacy.payee.long': ['For ever', '永久'], 'privacy.payee.erased': ['With the secret of the desk', '随本台密钥一同失效'],
	'privacy.session': ['Sessions, and confirmations that were begun', '登录会话和已开始的确认'], 'privacy.session.long': ['{minutes} minutes; an hour', '{minutes} 分钟；一小时'], 'privacy.session.erased': ['The desk itself', '本台自动删除'],
	'privacy.call': ['Calls: names, states, timelines', '通话：姓名、状态、时间线'], 'privacy.call.long': ['In memory, until the room was empty for 15 minutes', '仅在内存中，至房间空闲 15 分钟'], 'privacy.call.erased': ['The desk itself', '本台自动删除'],
	'privacy.picture': ['Pictures and sound of calls', '通话的画面和声音'], 'privacy.picture.long': ['Nowhere. In memory: the brightness of 144 cells for eight seconds; the mean colour of a face while light is asked for; eight seconds of sound', '不保存。内存中仅有：144 个方格的亮度（八秒）；光线验证期间面部的平均颜色、八秒的声音'], 'privacy.picture.erased': ['At once. The page says so where somebody records', '立即删除。有人录制时页面会提示'],
	'privacy.verdict': ['Verdicts of calls, by random ids', '通话的结论（随机编号）'], 'privacy.verdict.long': ['For ever', '永久'], 'privacy.verdict.erased': ['With the database', '随数据库'],
	'privacy.question': ['Questions to the desk, and their answers', '向本台提的问题和回答'], 'privacy.question.long': ['Nowhere', '不保存'], 'privacy.question.erased': ['At once', '立即删除'],
	'privacy.receipt': ['Receipts: random names, digests, signatures; no payee, account, amount or name', '收据：随机名称、摘要、签名；不含收款人、账号、金额或姓名'], 'privacy.receipt.long': ['For ever', '永久'], 'privacy.receipt.erased': ['Not: they are what is proven', '不删除：它们就是证据'],
	'call': ['Call', '通话'], 'call.new': ['New call', '发起通话'], 'call.join': ['Join with your passkey', '用通行密钥加入'], 'call.leave': ['Leave', '离开'], 'call.you': ['you', '您'],
	'call.text': ['Your passkey binds your pictures and your sound to you: they are marked with keys that nobody else has in time.', '您的通行密钥把画面和声音与您绑定：它们带有他人无法及时得到的密钥所作的标记。'],
	'call.link': ['For colleagues with a passkey:', '给有通行密钥的同事：'], 'call.guest.link': ['For guests, who will be only a picture:', '给访客（仅显示为画面）：'],
	'call.guest.text': ['You join as a guest. Others see that nothing proves who you are.', '您以访客身份加入，其他人会看到您的身份未经证明。'], 'call.guest.join': ['Join as a guest', '以访客身份加入'],
	'call.confirm': ['A green tile is an enrolled device’s own picture. It is no approval: confirm payments on the desk, outside this call.', '绿色表示画面来自已登记的设备，但不等于批准：付款请在通话之外的确认台确认。'],
	'call.confirmed': ['Confirmed: this device’s own picture', '已确认：该设备自己的画面'], 'call.not_confirmed': ['NOT CONFIRMED: picture or sound was replaced, or lost its mark', '未确认：画面或声音被替换，或标记丢失'],
	'call.picture_only': ['Only a picture: nobody proved who this is', '仅为画面：未证明是谁'], 'call.waiting': ['Wait: too early to say', '请稍候，尚不能判断'], 'call.no_picture': ['No picture', '没有画面'],
	'call.mute': ['Mute', '静音'], 'call.unmute': ['Unmute', '取消静音'], 'call.sound.waiting': ['Sound: too little was heard lately to say', '声音：近来听到的太少，尚不能判断'],
	'call.sound.confirmed': ['Sound confirmed', '声音已确认'], 'call.sound.not_confirmed': ['SOUND NOT CONFIRMED', '声音未确认'],
	'call.recorded': ['A recorder is, or was, in this call.', '有录制程序正在（或曾经）参与本次通话。'],
	'call.words': ['Check what they said', '核对对方所说（英语）'], 'call.words.yes': ['They said the two words.', '对方说出了这两个词。'], 'call.words.no': ['Heard “{heard}”: not your two words. Have them say both again, slowly.', '听到的是“{heard}”，与您的两个词不符。请对方慢慢再说一遍。'], 'call.words.none': ['No words were heard in the last seconds.', '最近几秒没有听到词语。'],
	'call.say': ['Say to each other:', '请互相念出：'], 'call.light': ['Ask for light', '用光线验证'], 'call.light.asked': ['Their screen lights up for 8 seconds.', '对方屏幕将变色 8 秒。'], 'call.light.look': ['Look at the screen', '请看屏幕'],
	'call.light.yes': ['The face followed the light of its screen.', '面部随屏幕光线变化。'], 'call.light.no': ['The face did not follow the light. That may be a bright room.', '面部未随光线变化，也可能因房间太亮。'],
	'problem.NotFoundError': ['There is no camera.', '没有摄像头。'], 'problem.NotReadableError': ['Another program uses the camera.', '摄像头正被其他程序使用。'],
	'problem.offline': ['The desk does not answer.', '确认台没有响应。'], 'problem.NotAllowedError': ['The device gave no answer, or was told no.', '设备没有应答，或操作被取消。'],
});

/** Problems in Chinese; in English the desk's own sentences are shown, which name a next step. */
const PROBLEMS = {
	wrong_digits: '输入与请求不符，请再读一遍请求。', assertion_refused: '通行密钥的应答在此无效，请使用确认台页面和已登记的设备。', ceremony_over: '此次确认已使用或已过期，请重新开始。',
	request_over: '该请求已不再等待答复。', not_yours: '此请求不由您确认；您可以拒绝它。', already_answered: '您已经答复过。', not_enrolled: '您没有已登记的通行密钥，请两位同事为您登记。',
	not_signed_in: '尚未登录，请用通行密钥登录。', wrong_code: '代码不正确。', fallback_not_allowed: '此请求不接受（更多）验证码，请使用通行密钥。', not_found: '没有找到。', too_many_attempts: '尝试过多，请稍等一分钟。',
	invalid_value: '有一项填写不正确：{param}', invalid_type: '有一项填写不正确：{param}', missing_required_parameter: '缺少一项：{param}', insufficient_scope: '您没有相应的角色。',
	queue_full: '通话或人数已满，请稍后再试。', unsupported: '此确认台未安装通话组件。', not_ready: '尚无画面。', wrong_state: '已在进行中。',
	clock_moved: '本机时钟被改动，暂停放行。请联系管理员。', rolled_back: '数据库不是最新的，暂停一切操作。请联系管理员。', origin_not_allowed: '此网页不得使用确认台。',
};

/** An error for people. */
export function problem(error) {
	if (has(`problem.${error.code}`)) return t(`problem.${error.code}`);
	if (has(`problem.${error.name}`)) return t(`problem.${error.name}`);
	const param = error.param && has(error.param) ? t(error.param) : (error.param ?? '');
	if (current() === 'zh' && PROBLEMS[error.code]) return PROBLEMS[error.code].replace('{param}', param);
	return error.message.charAt(0).toUpperCase() + error.message.slice(1);
}

export * from './web/i18n.js';
