//! What people call themselves, their channels and roles, and what they say. All of it is made up.

use super::text::Rng;

#[rustfmt::skip]
const GIVEN: &[&str] = &[
    "Mira", "Tomasz", "Inés", "Kaito", "Saoirse", "Bjørn", "Leilani", "Dmitri", "Amara", "Yusuf", "Nilufar",
    "Quentin", "Zsófia", "Ravi", "Hanneke", "Emeka", "Paloma", "Sigrún", "Teodor", "Wren", "Ludo", "Farah",
    "Alex", "Sam", "Jordan", "Chris", "Maria", "Anna", "Lucas", "Emma", "Noah", "Olivia", "Liam", "Sophie",
    "Max", "Leon", "Mia", "Hugo", "Léa", "Chloé", "Jakub", "Kasia", "Pavel", "Ivana", "Mehmet", "Elif",
    "Arjun", "Priya", "Wei", "Ling", "Minh", "Thảo", "Jisoo", "Hana", "Diego", "Camila", "João", "Beatriz",
    "Matteo", "Giulia", "Tyler", "Madison", "Brandon", "Kayla", "Ethan", "Zoë", "Nikolai", "Oksana", "Ahmed",
    "Layla", "Kofi", "Ama", "Finn", "Freya", "Jan", "Bo", "Ty", "Maximilian", "Christopher", "Alexandra",
    "Gwendolyn", "Bartholomew",
];
#[rustfmt::skip]
const FAMILY: &[&str] = &[
    "Vale", "Okoro", "Lindqvist", "Moreau", "Tanaka", "Brannigan", "Petrov", "Adeyemi", "Castellan",
    "Nakamura", "O'Day", "Hollow", "Finch", "Marsh", "Quill", "Ember", "Thorn", "Rook", "Sable", "Fen",
    "Smith", "Müller", "García", "Nowak", "Rossi", "Silva", "Nguyen", "Kim", "Yılmaz", "Jansen", "Dubois",
    "Kowalski", "Horváth", "Johansson", "Sharma", "Chen", "Lopez", "Brown", "Clarke", "van den Berg",
];
#[rustfmt::skip]
const ADJECTIVES: &[&str] = &[
    "silent", "crimson", "lazy", "turbo", "lost", "tiny", "salty", "cosmic", "frozen", "golden", "dark",
    "happy", "angry", "sleepy", "toxic", "royal", "neon", "rusty", "quantum", "spicy", "broken", "hidden",
    "electric", "mad", "sweet", "ghostly", "the_real", "not_a", "xx", "itz", "im", "mr", "miss", "just",
    "big", "old", "unholy", "lunar",
];
#[rustfmt::skip]
const NOUNS: &[&str] = &[
    "fox", "wolf", "dragon", "potato", "ninja", "raven", "toast", "panda", "knight", "wizard", "ghost",
    "tiger", "cookie", "shadow", "storm", "otter", "goblin", "pixel", "phoenix", "noodle", "duck", "cat",
    "kitsune", "waffle", "sniper", "gamer", "bean", "moon", "star", "void", "pirate", "robot", "frog", "bear",
    "samurai", "lemon", "pickle", "cloud", "blade", "echo", "viper", "hamster", "banana", "reaper", "muffin",
    "crow", "titan", "soup",
];
#[rustfmt::skip]
const OTHER_SCRIPTS: &[&str] = &[
    "佐藤 葵", "さくら", "ハルカ", "山田太郎", "ねこまる", "小明", "李雷", "风清扬", "김하늘", "민준", "서연이", "Привет Медведь", "Алексей",
    "Маша", "Кот Бегемот", "Дмитрий", "Олександр", "مريم الفجر", "أحمد", "محمد علي", "עדן לילה", "נועם",
    "नीलम शर्मा", "राज", "ไทยแลนด์", "น้องแมว", "Νίκος", "Ὀδυσσεύς", "გიორგი", "Արամ", "𝕸𝖆𝖗𝖐", "Ƭяιχ", "ʟᴜɴᴀ",
    "𝓢𝓸𝓹𝓱𝓲𝓮", "ＦＵＬＬ　ＷＩＤＴＨ", "꧁༺ Zed ༻꧂",
];
#[rustfmt::skip]
pub const EMOJI: &[&str] = &[
    "🔥", "🎉", "👍", "🦆", "☕", "🚀", "🏳️‍🌈", "🪴", "❤️", "😂", "😭", "💀", "👀", "✨", "🙏", "😎", "🥺", "✅", "❌", "🌙",
    "🎮", "🎵", "🐱", "🌸", "⭐", "💜",
];
#[rustfmt::skip]
const CHANNELS: &[&str] = &[
    "general", "off-topic", "announcements", "rules", "welcome", "memes", "bot-commands", "introductions",
    "music", "art", "screenshots", "support", "help", "dev", "feedback", "suggestions", "lfg", "ranked",
    "trading", "pets", "food", "books", "anime", "movies", "homework", "code-review", "releases", "logs",
    "mod-chat", "staff", "events", "giveaways", "clips", "polls", "venting", "politics", "deutsch",
    "français", "русский", "日本語", "español", "counting", "starboard", "roles", "faq", "changelog",
    "bug-reports", "showcase", "hardware", "linux",
];
#[rustfmt::skip]
const VOICE: &[&str] = &[
    "General", "Lounge", "Gaming 1", "Gaming 2", "Gaming 3", "Music", "AFK", "Staff Meeting", "Duo", "Trio",
    "Squad", "Study Hall", "Chill", "Karaoke 🎤", "Movie Night 🍿", "➕ Create a room", "Raid", "Podcast",
];
#[rustfmt::skip]
const CATEGORIES: &[&str] = &[
    "INFORMATION", "Text Channels", "Voice Channels", "COMMUNITY", "Staff", "Games", "━━ CREATIVE ━━",
    "Support", "Archive", "International 🌍", "Events", "Logs",
];
#[rustfmt::skip]
const ROLES: &[&str] = &[
    "Admin", "Moderator", "Trial Mod", "Helper", "Server Booster", "Verified", "Member", "Muted", "Artist",
    "Developer", "Streamer", "Event Host", "VIP", "Patron", "he/him", "she/her", "they/them", "18+", "Europe",
    "North America", "Asia", "Announcements Ping", "Giveaway Ping", "Dead Chat Revive", "Level 5", "Level 10",
    "Level 25", "Level 50", "Red", "Blue", "Mint", "Lavender", "🎮 PC", "🎮 Console", "🎨 Commissions open",
    "Новичок", "常連", "Quarantine", "Bots", "Partner", "Alumni", "━━━ Colours ━━━", "OG", "Night Owl 🦉",
];
#[rustfmt::skip]
const GAMES: &[&str] = &[
    "Stellar Drift", "Café Tycoon 3", "龍の谷", "Rook & Pawn", "Крепость", "Blob Racer", "Deep Cave II",
    "Sky 🎈 Mail", "Counter-Measure 2", "Legends of the Lane", "Block Craft", "Visual Studio Code",
    "Fort Nine", "Apex Rivals", "Tiny Farm Online", "Warhost: Total Siege", "osu! (made up)", "Chess",
    "Wordle Party", "Honkai Road",
];
#[rustfmt::skip]
const WORDS: &[&str] = &[
    "the", "i", "you", "to", "a", "it", "and", "is", "that", "of", "in", "my", "for", "just", "like", "so",
    "but", "not", "lol", "this", "what", "was", "have", "on", "be", "do", "me", "with", "no", "if", "can",
    "its", "are", "dont", "im", "get", "or", "how", "one", "yeah", "know", "at", "they", "all", "think", "u",
    "game", "play", "when", "up", "good", "would", "right", "now", "really", "need", "why", "people",
    "server", "anyone", "wanna", "tomorrow", "actually", "literally", "bro", "same", "nice", "wait", "maybe",
    "haha", "because", "something", "thought", "never", "again", "update", "channel", "voice", "work",
    "school", "sleep", "tired", "hello", "thanks", "sorry", "probably", "already", "version", "rank",
    "stream", "mod", "release", "screenshot",
];
#[rustfmt::skip]
const PHRASES: &[&str] = &[
    "lol", "lmao", "gg", "ok", "brb", "wtf", "true", "same", "hi", "gm everyone ☀️", "gn", "👍", "😂😂😂", "💀",
    "xd", "да", "привет всем", "спасибо!", "なるほど", "草", "了解です", "好的", "哈哈哈哈", "ㅋㅋㅋㅋ", "안녕하세요", "oui",
    "merci !", "ja genau", "warum nicht?", "por favor", "jajaja", "kurwa", "تمام", "شكرا", "สวัสดี",
];

/// `name`, the new kind of unique name: lower case, digits, dots and underscores, 2 to 32 of them.
pub fn username(rng: &mut Rng) -> String {
    let plain = |name: &str| {
        let ascii = name.chars().filter(char::is_ascii_alphanumeric).collect::<String>();
        ascii.to_lowercase()
    };
    let (given, family) = (plain(rng.pick(GIVEN)), plain(rng.pick(FAMILY)));
    let (adjective, noun) = (rng.pick(ADJECTIVES), rng.pick(NOUNS));
    let (digits, small) = (rng.range(1, 9999), rng.range(1, 99));
    let name = match rng.below(10) {
        0 => format!("{given}.{family}"),
        1 => format!("{given}{digits}"),
        2 => format!("{given}_{family}{small}"),
        3 | 4 => format!("{adjective}{noun}{digits}"),
        5 => format!("{adjective}_{noun}"),
        6 => format!("{noun}{small}"),
        7 => format!("{given}the{noun}"),
        8 => format!("_{noun}.{given}_"),
        _ => format!("{noun}{}_{digits}", rng.pick(NOUNS)),
    };
    name.chars().take(32).collect()
}

/// A name to show, for a user or as a nick.
pub fn display(rng: &mut Rng) -> String {
    let (given, family, noun) = (rng.pick(GIVEN), rng.pick(FAMILY), rng.pick(NOUNS));
    match rng.below(12) {
        0..3 => given.to_owned(),
        3 | 4 => format!("{given} {family}"),
        5 => format!("{given} {}", rng.pick(EMOJI)),
        6 | 7 => rng.pick(OTHER_SCRIPTS).to_owned(),
        8 => format!("{}{}", noun[..1].to_uppercase(), &noun[1..]),
        9 => format!("{} {noun}", rng.pick(ADJECTIVES)),
        10 => format!("{given} | {}", rng.pick(OTHER_SCRIPTS)),
        _ => format!("[{}] {noun}_{}", noun[..2].to_uppercase(), rng.range(1, 999)),
    }
}

pub fn bot(rng: &mut Rng) -> String {
    let noun = rng.pick(NOUNS);
    format!("{}{} Bot", noun[..1].to_uppercase(), &noun[1..])
}

pub fn channel(rng: &mut Rng, kind: u64) -> String {
    match kind {
        4 => rng.pick(CATEGORIES).to_owned(),
        2 | 13 => rng.pick(VOICE).to_owned(),
        _ if rng.chance(30) => format!("{}│{}", rng.pick(EMOJI), rng.pick(CHANNELS)),
        _ if rng.chance(20) => format!("{}-{}", rng.pick(CHANNELS), rng.pick(NOUNS)),
        _ => rng.pick(CHANNELS).to_owned(),
    }
}

pub fn role(rng: &mut Rng) -> String {
    match rng.below(5) {
        0 => format!("{} {}", rng.pick(EMOJI), rng.pick(ROLES)),
        1 => format!("{} {}", rng.pick(ROLES), rng.range(1, 50)),
        _ => rng.pick(ROLES).to_owned(),
    }
}

pub fn emoji(rng: &mut Rng) -> String {
    let (noun, word) = (rng.pick(NOUNS), rng.pick(WORDS));
    match rng.below(3) {
        0 => format!("{noun}{}{}", word[..1].to_uppercase(), &word[1..]),
        1 => format!("{noun}_{word}"),
        _ => format!("{noun}{}", rng.range(1, 99)),
    }
}

pub fn guild(rng: &mut Rng) -> String {
    let (given, noun) = (rng.pick(GIVEN), rng.pick(NOUNS));
    match rng.below(5) {
        0 => format!("{given}'s server"),
        1 => format!(
            "{} {}",
            rng.pick(GAMES),
            rng.pick(&["Community", "EU", "Official", "日本", "Россия", "Hub"])
        ),
        2 => format!("The {} {noun}s {}", rng.pick(ADJECTIVES), rng.pick(EMOJI)),
        3 => format!("{} fans", rng.pick(OTHER_SCRIPTS)),
        _ => format!("{noun} club"),
    }
}

pub fn game(rng: &mut Rng) -> &'static str {
    rng.pick(GAMES)
}

/// As many words as that.
pub fn words(rng: &mut Rng, count: u64) -> String {
    let mut out = String::new();
    for at in 0..count {
        if at > 0 {
            out.push(' ');
        }
        out.push_str(rng.pick(WORDS));
    }
    out
}

/// A custom status, say.
pub fn chat_short(rng: &mut Rng) -> String {
    if rng.chance(50) {
        return rng.pick(PHRASES).to_owned();
    }
    let count = rng.range(1, 6);
    words(rng, count)
}

/// A line of chat. Most are a few words, few are long: 40 characters in the median, 55 on average.
pub fn chat(rng: &mut Rng) -> String {
    let mut out = match rng.below(100) {
        0..20 => rng.pick(PHRASES).to_owned(),
        20..45 => {
            let count = rng.range(1, 5);
            words(rng, count)
        }
        45..85 => {
            let count = rng.range(6, 14);
            words(rng, count)
        }
        85..97 => {
            let count = rng.range(15, 35);
            words(rng, count)
        }
        97..99 => format!("https://example.invalid/watch?v={}", rng.hex(11)),
        _ => {
            let count = rng.range(60, 200);
            words(rng, count)
        }
    };
    if rng.chance(12) {
        out.push(' ');
        out.push_str(rng.pick(EMOJI));
    }
    if rng.chance(3) {
        out.push_str("\n> \"");
        out.push_str(rng.pick(PHRASES));
        out.push('"');
    }
    out
}
