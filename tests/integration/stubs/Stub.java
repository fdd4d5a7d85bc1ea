// Asks a DNS server with JNDI and with the system's resolver; prints "question=answer" lines.
//   java Stub.java SERVER:PORT
import java.net.InetAddress;
import java.net.UnknownHostException;
import java.util.ArrayList;
import java.util.Hashtable;
import java.util.List;
import javax.naming.NameNotFoundException;
import javax.naming.NamingEnumeration;
import javax.naming.directory.Attribute;
import javax.naming.directory.DirContext;
import javax.naming.directory.InitialDirContext;

class Stub {
    public static void main(String[] arguments) throws Exception {
        Hashtable<String, String> settings = new Hashtable<>();
        settings.put("java.naming.factory.initial", "com.sun.jndi.dns.DnsContextFactory");
        settings.put("java.naming.provider.url", "dns://" + arguments[0]);
        DirContext dns = new InitialDirContext(settings);
        String[][] asked = {
            {"a", "api.mesh.internal", "A"},
            {"mixedCase", "ApI.MeSh.InTeRnAl", "A"},
            {"onlyA", "only.deep.mesh.internal", "A"},
            {"onlyAasAaaa", "only.deep.mesh.internal", "AAAA"},
            {"emptyNonTerminal", "deep.mesh.internal", "A"},
            {"missing", "none.mesh.internal", "A"},
            {"srv", "_http._tcp.api.mesh.internal", "SRV"},
        };
        for (String[] each : asked) {
            String said;
            try {
                said = values(dns.getAttributes(each[1], new String[] {each[2]}).get(each[2]));
            } catch (NameNotFoundException missing) {
                said = "not found";
            }
            System.out.println(each[0] + "=" + said);
        }
        for (String name : new String[] {"only.deep.mesh.internal", "api.mesh.internal"}) {
            List<String> found = new ArrayList<>();
            for (InetAddress address : InetAddress.getAllByName(name)) {
                found.add(address.getHostAddress());
            }
            System.out.println("lookup " + name + "=" + String.join(",", found));
        }
        try {
            InetAddress.getByName("none.mesh.internal");
        } catch (UnknownHostException missing) {
            System.out.println("lookup none=not found");
        }
    }

    private static String values(Attribute attribute) throws Exception {
        List<String> found = new ArrayList<>();
        if (attribute != null) {
            NamingEnumeration<?> all = attribute.getAll();
            while (all.hasMore()) {
                found.add(all.next().toString());
            }
        }
        return String.join(",", found);
    }
}
